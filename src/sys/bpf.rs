//! Classic BPF programs on sockets (socket(7), `SO_ATTACH_FILTER`): the kernel runs one on each packet before it
//! does anything else with the packet.
//!
//! The packet filter alone uses this. What a program drops is its maker's decision; nothing here knows a network or
//! a ban. Attaching fails where the kernel refuses the program; detaching does not fail.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, sock_filter, sock_fprog};

/// The largest number of instructions in a program (`BPF_MAXINSNS`).
pub(crate) const INSTRUCTIONS_MAX: usize = 4096;

/// One instruction. The constructors make instructions that read the packet or give a verdict; none writes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Instruction(sock_filter);

/// Prints code, jumps and operand, in the form of tcpdump -ddd.
impl fmt::Debug for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, yes, no, operand) = self.parts();
        write!(f, "{code} {yes} {no} {operand}")
    }
}

impl Instruction {
    const fn new(code: u32, yes: u8, no: u8, operand: u32) -> Self {
        // Codes are below 256.
        Self(sock_filter { code: code as u16, jt: yes, jf: no, k: operand })
    }

    /// Loads the protocol of the packet, an ethertype.
    pub(crate) const fn load_protocol() -> Self {
        let operand = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;
        Self::new(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, operand)
    }

    /// Loads 32 bits at an offset into the IP header.
    pub(crate) const fn load_ip(offset: u32) -> Self {
        Self::new(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, (libc::SKF_NET_OFF as u32).wrapping_add(offset))
    }

    /// Skips `yes` instructions if the loaded value equals `value`, else `no`.
    pub(crate) const fn if_equal(value: u32, yes: u8, no: u8) -> Self {
        Self::new(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value)
    }

    /// Skips `yes` instructions if the loaded value is at least `value`, else `no`.
    pub(crate) const fn if_at_least(value: u32, yes: u8, no: u8) -> Self {
        Self::new(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, yes, no, value)
    }

    /// Skips `yes` instructions if the loaded value is greater than `value`, else `no`.
    pub(crate) const fn if_above(value: u32, yes: u8, no: u8) -> Self {
        Self::new(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, yes, no, value)
    }

    /// Skips `count` instructions.
    pub(crate) const fn skip(count: u32) -> Self {
        Self::new(libc::BPF_JMP | libc::BPF_JA, 0, 0, count)
    }

    /// Ends the program: the packet passes.
    pub(crate) const fn pass_packet() -> Self {
        Self::new(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX)
    }

    /// Ends the program: the packet is dropped.
    pub(crate) const fn drop_packet() -> Self {
        Self::new(libc::BPF_RET | libc::BPF_K, 0, 0, 0)
    }

    /// The code, the two jumps and the operand, for an interpreter.
    pub(crate) const fn parts(self) -> (u16, u8, u8, u32) {
        (self.0.code, self.0.jt, self.0.jf, self.0.k)
    }
}

/// Attaches a program to a socket. It replaces an earlier program between two packets.
///
/// # Errors
/// `EPERM`: for TCP, newer kernels require `CAP_NET_ADMIN`. `ENOMEM`: it needs more than `net.core.optmem_max`
/// allows. `EINVAL`: it is too long.
pub(crate) fn attach_program(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let (descriptor, size) = (socket.as_fd().as_raw_fd(), size_of::<sock_fprog>() as libc::socklen_t);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: the kernel copies `len` instructions, which `filter` points to, and writes nothing.
    let result = unsafe { libc::setsockopt(descriptor, level, name, (&raw const program).cast(), size) };
    super::check(result.into()).map(|_| ())
}

/// Detaches the program from a socket, if it has one.
pub(crate) fn detach_program(socket: impl AsFd) {
    // The kernel requires an int although it ignores the value.
    let _ = super::socket::set_option(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0 as c_int);
}
