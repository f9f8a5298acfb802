//! Exit statuses of all programs and builtins: those of sysexits(3), as oxinetd(8) explains them. Every module may use
//! them.

/// The program has done its work.
pub const DONE: u8 = 0;
/// A failure at run time.
pub const FAILURE: u8 = 1;
/// The command line is wrong, or descriptor 0 of a builtin is not what it should be.
pub const USAGE: u8 = 64;
/// The name of a target has no address.
pub const NO_HOST: u8 = 68;
/// A socket can't be opened, or no address of a target took the connection.
pub const UNAVAILABLE: u8 = 69;
/// The system lacks something: memory, descriptors, a new enough kernel.
pub const SYSTEM: u8 = 71;
/// A client or a target sent nothing for too long.
pub const IDLE: u8 = 75;
/// The system or the daemon denies permission.
pub const PERMISSION: u8 = 77;
/// The service table is wrong.
pub const CONFIG: u8 = 78;
