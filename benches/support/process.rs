//! What /proc tells about a process.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

/// CPU time used up to now.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    /// By the process's own threads, to the nanosecond.
    pub(crate) own: Duration,
    /// By its children that it has waited for, in clock ticks (10 ms).
    pub(crate) children: Duration,
}

impl Cpu {
    pub(crate) fn all(self) -> Duration {
        self.own + self.children
    }
}

/// Of a live process.
pub(crate) fn cpu(pid: u32) -> Result<Cpu> {
    let mut own = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
        own += Duration::from_nanos(number(schedstat.split_whitespace().next())?);
    }
    let tick = Duration::from_secs(1) / sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as u32;
    // cutime and cstime, the 16th and 17th field (proc(5)).
    let stat = stat(pid)?;
    let ticks = number::<u32>(stat.get(13).map(String::as_str))? + number::<u32>(stat.get(14).map(String::as_str))?;
    Ok(Cpu { own, children: tick * ticks })
}

/// Proportional set size, in KiB.
pub(crate) fn pss(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    number(line.and_then(|line| line.split_whitespace().next()))
}

/// Waits until no more than `most` children of a process are alive, though it may not have waited for those that ended.
pub(crate) fn until_children(pid: u32, most: usize) -> Result<()> {
    let begin = Instant::now();
    while living_children(pid)? > most {
        if begin.elapsed() > Duration::from_secs(30) {
            return Err(Error::new(ErrorKind::TimedOut, "handlers are left after 30 s"));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn living_children(pid: u32) -> Result<usize> {
    let is_living_child = |child: u32| {
        // One that is gone by now is nobody's child.
        stat(child).is_ok_and(|stat| stat[0] != "Z" && stat.get(1).and_then(|parent| parent.parse().ok()) == Some(pid))
    };
    let processes = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(processes.filter(|&child| is_living_child(child)).count())
}

/// The fields of /proc/PID/stat from the third, the state, on.
fn stat(pid: u32) -> Result<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = line.rsplit_once(')').map_or("", |(_, fields)| fields);
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

fn number<N: std::str::FromStr>(word: Option<&str>) -> Result<N> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| Error::other("/proc has another form than proc(5) says"))
}
