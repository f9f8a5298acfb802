//! The state that an upgrade hands from one program to the next: one JSON document in a file in memory.
//!
//! The old program writes it from its live records; the new one reads it, in the preflight and again when it takes over. Its
//! form has a number, and a program reads no form but its own; the preflight shows that before the old program has given
//! anything up. Times are those of the monotonic clock, which execve(2) does not change. Descriptors are numbers of the
//! process, which stays the same: [`System`] takes them over by reading them, and [`Preview`] only reads the numbers.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::UpgradeError;
use crate::api::Upgrades;
use crate::compat;
use crate::config::{Loaded, dump};
use crate::control;
use crate::dispatch::kernel::Resources;
use crate::dispatch::saved;
use crate::limits::histogram::{Histogram, TURNS};
use crate::net::socket_file::FileIdentity;
use crate::server::Server;
use crate::server::options::ServerOptions;
use crate::sys::descriptor::{self, Nofile};
use crate::system::{Preview, System};

/// The form that this program writes, and the only one that it reads.
pub(super) const STATE_FORM: u32 = 2;

/// The largest state in bytes, more than any daemon can have.
const STATE_LEN_MAX: u64 = 1 << 30;

/// The whole state. `D` is the dispatcher's part, `C` the control socket.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct UpgradeState<D, C> {
    form: u32,
    pub(super) options: ServerOptions,
    pub(super) nofile: Nofile,
    /// The table in force, as `--dump` prints it.
    table: String,
    pub(super) since: Duration,
    pub(super) reloads: (u64, u64),
    pub(super) upgrades: Upgrades,
    pub(super) table_since: Duration,
    pub(super) turns: Histogram<{ TURNS.len() }>,
    pub(super) longest_turn: Duration,
    pub(super) control: Option<C>,
    pub(super) dispatcher: D,
}

/// The form in which the state of a system has the open control socket.
pub(super) trait ControlSocket: Resources {
    type Control;
}

impl ControlSocket for System {
    type Control = control::OpenSocket;
}

impl ControlSocket for Preview {
    type Control = control::OpenSocket<RawFd, FileIdentity>;
}

/// The state as a program reads it.
pub(super) type RestoredState<R> = UpgradeState<saved::Restored<R>, <R as ControlSocket>::Control>;

/// The part of a state that says whether the rest can be read.
#[derive(Deserialize)]
struct StateHeader {
    form: u32,
}

impl Server {
    /// Writes the state into a new file in memory. The file's position is then at its end.
    pub(super) fn write_state(&self) -> io::Result<File> {
        let state = UpgradeState {
            form: STATE_FORM,
            options: self.options.clone(),
            nofile: self.nofile,
            table: dump::dump(&self.table),
            since: self.since,
            reloads: self.reloads,
            upgrades: Upgrades { done: self.upgrades.done + 1, problem: None, ..self.upgrades.clone() },
            table_since: self.table_since,
            turns: self.turns.clone(),
            longest_turn: self.longest_turn,
            control: self.control.save(),
            dispatcher: self.dispatcher.save(),
        };
        let mut file = descriptor::memory_file(c"oxinetd state")?;
        file.write_all(&serde_json::to_vec(&state)?)?;
        Ok(file)
    }
}

/// Reads the state that [`Server::write_state`] of this or another program has written.
///
/// # Errors
/// The file has no state, or one of another form.
pub(super) fn read_state<S: DeserializeOwned>(file: &File) -> Result<S, UpgradeError> {
    let bytes = read_bytes(file).map_err(|error| UpgradeError::UnreadableState(error.to_string()))?;
    let unreadable = |error: serde_json::Error| UpgradeError::UnreadableState(error.to_string());
    let StateHeader { form } = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if form != STATE_FORM {
        return Err(UpgradeError::StateForm { found: form, known: STATE_FORM });
    }
    serde_json::from_slice(&bytes).map_err(unreadable)
}

fn read_bytes(file: &File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let length = usize::try_from(length.min(STATE_LEN_MAX)).unwrap_or(0);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Can this program read a state? It reads the state as the next program does in its preflight.
#[cfg(any(test, fuzzing))]
pub fn can_restore(state: &File) -> bool {
    read_state::<RestoredState<Preview>>(state).is_ok()
}

impl<D, C> UpgradeState<D, C> {
    /// The table in force: read from its files, so that messages name their lines; or from the copy in the state, if the
    /// files have changed since.
    ///
    /// # Errors
    /// The copy in the state can't be read.
    pub(super) fn load_table(&self) -> Result<Loaded, UpgradeError> {
        let options = compat::Options { dialect: self.options.dialect, ..compat::Options::default() };
        if let Ok(loaded) = compat::load_with(&self.options.files, &options).loaded() {
            if dump::dump(&loaded.table) == self.table {
                return Ok(Loaded { warnings: Vec::new(), ..loaded });
            }
        }
        let copy = self.write_table().map_err(UpgradeError::TableFile)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", copy.as_fd().as_raw_fd()));
        compat::load(&[path]).map_err(UpgradeError::Table)
    }

    /// Writes the copy of the table into a file in memory.
    fn write_table(&self) -> io::Result<File> {
        let mut file = descriptor::memory_file(c"oxinetd table")?;
        file.write_all(self.table.as_bytes())?;
        Ok(file)
    }
}
