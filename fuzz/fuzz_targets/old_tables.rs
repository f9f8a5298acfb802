//! Any bytes as a file of inetd or xinetd: reading them must come to an end, and the translation into YAML must give the
//! same table.
//!
//! `cargo +nightly fuzz run old_tables`; good beginnings are tests/inetd_conf/*.conf and tests/xinetd_conf/*.conf, each
//! with a letter before it. The first byte chooses the format and the dialect.

#![no_main]

#[path = "../../tests/elsewhere/mod.rs"]
mod elsewhere;

use elsewhere::Elsewhere;
use libfuzzer_sys::fuzz_target;
use oxinetd::table::dump::dump;
use oxinetd::table::import::import;
use oxinetd::table::{DIALECTS, Options, load_with};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, content)) = bytes.split_first() else { return };
    let dialect = DIALECTS.get(usize::from(*choice) % (DIALECTS.len() + 1)).map(|(_, dialect)| *dialect);
    let folder = tempfile::tempdir().expect("there is room for a file");
    let (old, new) = (folder.path().join("old.conf"), folder.path().join("new.yaml"));
    // So that it is taken for an inetd.conf, or for a xinetd.conf.
    let first: &[u8] = if dialect.is_some() { b"#:X:\n" } else { b"defaults\n{\n}\n" };
    std::fs::write(&old, [first, content].concat()).expect("it can be written");
    let options = Options { machine: &Elsewhere::default(), dialect: dialect.unwrap_or_default() };
    let Ok(imported) = import(std::slice::from_ref(&old), &options) else { return };
    std::fs::write(&new, imported.yaml).expect("it can be written");
    if let Ok(table) = load_with(std::slice::from_ref(&old), &options).table {
        let translated = load_with(&[new], &options).table.expect("the translation is a table");
        assert_eq!(dump(&table), dump(&translated));
    }
});
