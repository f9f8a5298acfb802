//! The functions behind the fuzz targets in fuzz/: each takes any bytes, and panics if the program breaks a
//! promise.
//!
//! `cargo fuzz` calls them, and the ordinary tests with every file of the corpus. No shipped program contains them,
//! and they keep no state.

use std::ffi::CString;
use std::path::PathBuf;

use crate::builtin::{REQUEST_LEN_MAX, parse_request};
use crate::compat::{Options, import, load_with};
use crate::config::{DIALECTS, Dialect, dump};
use crate::fake_machine::FakeMachine;
use crate::log::fuzzed::render_both;
use crate::{api, control};
use crate::{ctl, server};

/// A function that takes any bytes.
type FuzzTarget = fn(&[u8]);

/// The targets, by name.
pub const TARGETS: [(&str, FuzzTarget); 8] = [
    ("table", check_table),
    ("xinetd_conf", check_xinetd_conf),
    ("inetd_conf", check_inetd_conf),
    ("control", check_control_lines),
    ("tcpmux", check_tcpmux),
    ("state", check_state),
    ("log", check_log),
    ("http", ctl::check_head),
];

/// A table in any format is read or refused. If it is read, its `--dump` reads back to the same table.
fn check_table(bytes: &[u8]) {
    read_table(bytes, Dialect::default());
}

/// The same for an old format; and its translation is the same table, or reported as incomplete.
fn check_xinetd_conf(bytes: &[u8]) {
    read_old(bytes, Dialect::default());
}

/// The same for an inetd.conf, whose dialect the first byte chooses.
fn check_inetd_conf(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    read_old(rest, DIALECTS[usize::from(*first) % DIALECTS.len()].1);
}

fn read_old(bytes: &[u8], dialect: Dialect) {
    if asks_for_much(bytes) {
        return;
    }
    read_table(bytes, dialect);
    with_file(bytes, |path| {
        let options = Options { machine: &FakeMachine::with_everything(), dialect };
        let Ok(imported) = import::import(std::slice::from_ref(&path), &options) else { return };
        let Ok(original) = load_with(&[path], &options).table else { return };
        match with_file(imported.yaml.as_bytes(), |yaml| load_with(&[yaml], &options).table) {
            Ok(translated) => assert_eq!(dump::dump(&translated), dump::dump(&original), "{}", imported.yaml),
            Err(problems) => panic!("the translation is wrong: {}\n{}", problems[0], imported.yaml),
        }
    });
}

fn read_table(bytes: &[u8], dialect: Dialect) {
    if asks_for_much(bytes) {
        return;
    }
    let options = Options { machine: &FakeMachine::with_everything(), dialect };
    let load = |bytes: &[u8]| with_file(bytes, |path| load_with(&[path], &options).loaded());
    match load(bytes) {
        Err(problems) => assert!(!problems.is_empty(), "no table, and nobody says why"),
        Ok(loaded) => {
            let printed = dump::dump(&loaded.table);
            match load(printed.as_bytes()) {
                Err(problems) => panic!("what was printed is wrong: {}\n{printed}", problems[0]),
                Ok(again) => assert_eq!(dump::dump(&again.table), printed),
            }
        }
    }
}

/// Whether the bytes may include files by patterns that match many paths of this machine.
fn asks_for_much(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| matches!(byte, b'*' | b'?' | b'[')).count() > 3
        && bytes.windows(7).any(|w| w == b"include")
}

#[cfg(not(miri))]
fn with_file<T>(bytes: &[u8], work: impl FnOnce(PathBuf) -> T) -> T {
    use std::io::Write;
    use std::os::fd::{AsFd, AsRawFd};

    let mut file = crate::sys::descriptor::memory_file(c"table").expect("memory");
    file.write_all(bytes).expect("memory");
    work(PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())))
}

/// Miri lacks memfd_create(2).
#[cfg(miri)]
fn with_file<T>(bytes: &[u8], work: impl FnOnce(PathBuf) -> T) -> T {
    static FILES: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = FILES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("oxinetd-{}-{number}", std::process::id()));
    std::fs::write(&path, bytes).expect("room");
    let done = work(path.clone());
    std::fs::remove_file(path).expect("it is there");
    done
}

/// A client of the control socket. In whatever pieces its bytes arrive, each line is read as it was sent, or is too
/// long; and each line is a request or is refused.
fn check_control_lines(bytes: &[u8]) {
    let Some((first, sent)) = bytes.split_first() else { return };
    let taken = control::fuzzed::read_lines(sent, usize::from(*first) + 1);
    let mut expected = sent.split(|byte| *byte == b'\n');
    for line in &taken {
        let real = expected.next().expect("no line more than was sent");
        match line {
            Ok(line) => {
                assert_eq!(line, real);
                if let Err(refused) = api::read_request(line) {
                    assert!(!refused.messages.is_empty());
                }
                let _ = api::read_answer(line);
            }
            Err(()) => assert!(real.len() > control::fuzzed::LINE_LEN_MAX),
        }
    }
}

/// The first bytes from a client of `tcpmux`.
fn check_tcpmux(bytes: &[u8]) {
    let line = bytes.iter().position(|byte| *byte == b'\n').filter(|end| *end < REQUEST_LEN_MAX);
    let found = parse_request(bytes);
    assert_eq!(found.as_ref().map(|(_, length)| *length), line.map(|end| end + 1));
    if let Some((name, _)) = found {
        assert_eq!(name, name.trim().to_ascii_lowercase());
    }
}

/// The saved state of another program is read or refused.
fn check_state(bytes: &[u8]) {
    with_file(bytes, |path| {
        let file = std::fs::File::open(path).expect("a file");
        server::can_restore(&file)
    });
}

/// A message from outside becomes one line of printable characters, from which it can be restored.
fn check_log(bytes: &[u8]) {
    let message = String::from_utf8_lossy(bytes).into_owned();
    let (text, json) = render_both(message.clone());
    let printable = |character: char| matches!(character, ' '..='~') || character.is_alphanumeric();
    for line in [&text, &json] {
        assert!(line.chars().all(printable), "{line:?}");
    }
    assert!(text.starts_with("warning message="));
    let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(read["message"], message.as_str());
    // The journal and syslog get the line as it is.
    let _ = CString::new(text).expect("no NUL");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use super::TARGETS;

    fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "no corpus for {target}");
        files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
    }

    #[test]
    fn every_file_of_the_corpus_keeps_the_promises() {
        for (name, target) in TARGETS {
            if cfg!(miri) && name == "control" {
                continue; // Its clients close one direction of a pair of sockets, which Miri can't.
            }
            for (file, bytes) in corpus(name) {
                // Said by the panic's own line; this says of which file.
                let result = std::panic::catch_unwind(|| target(&bytes));
                assert!(result.is_ok(), "{}", file.display());
            }
        }
    }

    /// Pseudo-random numbers (xorshift64), the same in every run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % end.max(1) as u64).unwrap()
        }
    }

    /// The bytes that have a meaning to the readers.
    const SIGNS: &[u8] = b"\0\n\r\t \"'#:=-+/\\{}[]<>*&!|%@`,;.0123456789aZ\x7f\xc2\xa0\xff";

    /// A piece of `bytes` changed, left out, doubled, or taken from `other`; several times over.
    fn mutated(bytes: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=numbers.below(6) {
            let from = numbers.below(bytes.len() + 1);
            let most = 1 + numbers.below(40);
            let to = from + numbers.below((bytes.len() - from + 1).min(most));
            let sign = SIGNS[numbers.below(SIGNS.len())];
            let start = numbers.below(other.len() + 1);
            let piece = match numbers.below(5) {
                0 => vec![sign],
                1 => vec![sign; numbers.below(200)],
                2 => bytes[from..to].repeat(2),
                3 => other[start..].iter().take(numbers.below(60)).copied().collect(),
                _ => Vec::new(),
            };
            bytes.splice(from..to, piece);
        }
        bytes
    }

    /// A substitute for a coverage-guided fuzzer. With `OXINETD_FUZZ`, each target runs for this number of seconds,
    /// with a different seed each time; without it, a few hundred times, always with the same seed.
    #[test]
    fn what_is_like_the_corpus_keeps_the_promises() {
        let seconds: Option<u64> = std::env::var("OXINETD_FUZZ").ok().and_then(|text| text.parse().ok());
        let seed = seconds.map_or(1, |_| u64::from(std::process::id()) << 20 | 1);
        for (name, target) in TARGETS {
            let (corpus, mut numbers, begun) = (corpus(name), Numbers(seed), Instant::now());
            let mut tries = 0;
            while seconds.map_or(tries < 300, |seconds| begun.elapsed() < Duration::from_secs(seconds)) {
                let mut any = || &corpus[numbers.below(corpus.len())].1;
                let (one, other) = (any(), any());
                let bytes = mutated(one, other, &mut numbers);
                let result = std::panic::catch_unwind(|| target(&bytes));
                assert!(result.is_ok(), "{name}: {:?}", bytes.escape_ascii().to_string());
                tries += 1;
            }
            println!("{name}: {tries} tries");
        }
    }

    #[test]
    fn every_target_has_its_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for (name, _) in TARGETS {
            assert!(folder.join(format!("fuzz_targets/{name}.rs")).exists(), "{name}");
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        }
    }
}
