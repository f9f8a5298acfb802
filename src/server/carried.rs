//! The state that an upgrade carries from one program to the next: one JSON document in a file in memory.
//!
//! Its form has a number. A program reads the forms that it knows and no others, and says so before the one that runs
//! has given anything up. Times are of the monotonic clock, which execve(2) does not touch. Descriptors are numbers of
//! the process, which stays the same.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Daemon, Options};
use crate::api::Upgrades;
use crate::config::{Loaded, dump};
use crate::dispatch::{acceptor, listeners, reaper};
use crate::limits::histogram::{Histogram, TURNS};
use crate::limits::ledger;
use crate::sys::clock;
use crate::sys::descriptor::{self, Nofile};
use crate::types::Now;
use crate::{admission, compat, control};

/// The form that this program writes, and the only one that it reads.
pub(super) const FORM: u32 = 1;

/// Enough for the state of any daemon; more is nobody's state.
const MOST: u64 = 1 << 30;

/// All that is carried.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Carried {
    form: u32,
    pub(super) options: Options,
    pub(super) nofile: Nofile,
    /// The table in force, as `--dump` prints it.
    table: String,
    pub(super) since: Duration,
    pub(super) reloads: (u64, u64),
    pub(super) upgrades: Upgrades,
    pub(super) table_since: Duration,
    pub(super) turns: Histogram<{ TURNS.len() }>,
    pub(super) longest_turn: Duration,
    pub(super) control: Option<control::Carried>,
    pub(super) ledger: ledger::Carried,
    pub(super) admission: admission::Carried,
    pub(super) handlers: Vec<reaper::Carried>,
    pub(super) listeners: Vec<listeners::Carried>,
    /// Connections that handlers of `tcpmux` may give back.
    #[serde(default)]
    pub(super) kept: Vec<acceptor::Carried>,
}

/// The part by which one knows whether the rest can be read.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

impl Carried {
    pub(super) fn of(daemon: &Daemon, now: Duration) -> Self {
        let now = Now { monotonic: now, wall: clock::wall() };
        Self {
            form: FORM,
            options: daemon.options.clone(),
            nofile: daemon.nofile,
            table: dump::dump(&daemon.table),
            since: daemon.since,
            reloads: daemon.reloads,
            upgrades: Upgrades { done: daemon.upgrades.done + 1, problem: None, ..daemon.upgrades.clone() },
            table_since: daemon.table_since,
            turns: daemon.turns.clone(),
            longest_turn: daemon.longest_turn,
            control: daemon.control.carry(),
            ledger: daemon.ledger.carry(),
            admission: daemon.acceptor.admission().carry(now),
            handlers: daemon.reaper.carry().collect(),
            listeners: daemon.listeners.carry().collect(),
            kept: daemon.acceptor.carry().collect(),
        }
    }

    /// Writes it into a new file in memory, whose position is then behind it.
    pub(super) fn write(&self) -> io::Result<File> {
        let mut file = descriptor::memory_file(c"oxinetd state")?;
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(file)
    }

    /// Reads what [`Carried::write`] of this or another program has written.
    ///
    /// # Errors
    /// It is none, or of another form.
    pub(super) fn read(file: &File) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("the state cannot be read: {error}");
        let length = file.metadata().map_err(|error| wrong(&error))?.len();
        let length = usize::try_from(length.min(MOST)).unwrap_or(0);
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, 0).map_err(|error| wrong(&error))?;
        let form: Form = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
        if form.form != FORM {
            return Err(format!("the state has form {}, and this program knows only form {FORM}", form.form));
        }
        serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
    }

    /// The table in force: from its files, so that messages name their lines, or where they say something else by now
    /// as it was printed.
    ///
    /// # Errors
    /// The table that was printed can't be read; a line for each problem.
    pub(super) fn load_table(&self) -> Result<Loaded, Vec<String>> {
        let options = compat::Options { dialect: self.options.dialect, ..compat::Options::default() };
        if let Ok(loaded) = compat::load_with(&self.options.files, &options).loaded() {
            if dump::dump(&loaded.table) == self.table {
                return Ok(Loaded { warnings: Vec::new(), ..loaded });
            }
        }
        let printed = self.print_table().map_err(|error| vec![format!("the table: {error}")])?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", printed.as_fd().as_raw_fd()));
        compat::load(&[path]).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn print_table(&self) -> io::Result<File> {
        let mut file = descriptor::memory_file(c"oxinetd table")?;
        file.write_all(self.table.as_bytes())?;
        Ok(file)
    }
}
