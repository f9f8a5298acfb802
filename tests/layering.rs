//! The modules stand in an order, and none uses what stands below it.
//!
//! `src/lib.rs` lists its modules in the order in which data flows. A file may name `crate::X` only for a module X that
//! stands above its own in that list. `server` ties them together and may name all; files that exist for tests alone
//! (declared `#[cfg(test)] mod NAME;`) may too. And `unsafe` has one room: `src/sys/`. The dispatcher makes no system call:
//! all of them go through its `Kernel`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The module that may use all others.
const TIES_TOGETHER: &str = "server";

/// A module as its parent declares it.
#[derive(Debug, PartialEq)]
struct Declared {
    name: String,
    for_tests: bool,
}

fn tokens(source: &str) -> Vec<TokenTree> {
    source.parse::<TokenStream>().expect("the source has balanced brackets").into_iter().collect()
}

fn ident(tree: &TokenTree) -> Option<String> {
    if let TokenTree::Ident(ident) = tree { Some(ident.to_string()) } else { None }
}

fn is_punct(tree: Option<&TokenTree>, sign: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

/// Every `mod NAME;` at the top of a file, in order.
fn declared(source: &str) -> Vec<Declared> {
    let mut modules = Vec::new();
    let is_end = |tree: &TokenTree| is_punct(Some(tree), ';') || is_braces(tree);
    for item in tokens(source).split_inclusive(is_end) {
        let [before @ .., keyword, name, end] = item else {
            continue;
        };
        if ident(keyword).as_deref() == Some("mod") && !is_braces(end) {
            let for_tests = before.windows(2).any(|pair| is_punct(pair.first(), '#') && is_cfg_test(&pair[1]));
            modules.push(Declared { name: name.to_string(), for_tests });
        }
    }
    modules
}

fn is_braces(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

fn is_cfg_test(attribute: &TokenTree) -> bool {
    attribute.to_string().split_whitespace().collect::<String>() == "[cfg(test)]"
}

/// The modules that a source names with `crate::`, groups included: `crate::{a, b::c}` names a and b.
fn named(trees: &[TokenTree]) -> HashSet<String> {
    let mut found = HashSet::new();
    for (position, tree) in trees.iter().enumerate() {
        if let TokenTree::Group(group) = tree {
            found.extend(named(&group.stream().into_iter().collect::<Vec<_>>()));
        }
        let path = is_punct(trees.get(position + 1), ':') && is_punct(trees.get(position + 2), ':');
        if ident(tree).as_deref() != Some("crate") || !path {
            continue;
        }
        match trees.get(position + 3) {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let group: Vec<TokenTree> = group.stream().into_iter().collect();
                found.extend(group.split(|tree| is_punct(Some(tree), ',')).filter_map(|path| ident(path.first()?)));
            }
            Some(other) => found.extend(ident(other)),
            None => {}
        }
    }
    found
}

/// What a file that makes no system call does not name, be it with something behind it.
const SYSTEM_CALLS: [&str; 11] = [
    "crate::sys",
    "crate::system",
    "libc",
    "nix",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
];

/// All paths of a source, those in groups included: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(trees: &[TokenTree]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = trees;
    while let Some(first) = rest.first() {
        rest = &rest[1..];
        if let TokenTree::Group(group) = first {
            found.extend(paths(&group.stream().into_iter().collect::<Vec<_>>()));
        }
        let Some(mut path) = ident(first) else { continue };
        let mut groups = vec![String::new()];
        while let [TokenTree::Punct(one), TokenTree::Punct(two), next, behind @ ..] = rest {
            if (one.as_char(), two.as_char()) != (':', ':') {
                break;
            }
            rest = behind;
            match next {
                TokenTree::Group(group) => {
                    groups = paths(&group.stream().into_iter().collect::<Vec<_>>());
                    groups.iter_mut().for_each(|inner| inner.insert_str(0, "::"));
                }
                next => path.extend(["::".to_owned(), next.to_string()]),
            }
        }
        found.extend(groups.into_iter().map(|inner| format!("{path}{inner}")));
    }
    found
}

/// The paths of a source by which it could make a system call.
fn system_calls(source: &str) -> Vec<String> {
    let calls = |path: &String| {
        SYSTEM_CALLS.iter().any(|call| {
            let rest = path.strip_prefix(call);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || call.ends_with("p"))
        })
    };
    paths(&tokens(source)).into_iter().filter(calls).collect()
}

fn says_unsafe(trees: &[TokenTree]) -> bool {
    trees.iter().any(|tree| match tree {
        TokenTree::Group(group) => says_unsafe(&group.stream().into_iter().collect::<Vec<_>>()),
        tree => ident(tree).as_deref() == Some("unsafe"),
    })
}

/// What is wrong with one file of the module `own`, where `order` is the list of `lib.rs`.
fn violations(own: &str, source: &str, order: &[String]) -> Vec<String> {
    let trees = tokens(source);
    let mut wrong = Vec::new();
    if own != "sys" && says_unsafe(&trees) {
        wrong.push("unsafe, outside sys".to_owned());
    }
    let Some(place) = order.iter().position(|name| name == own) else {
        wrong.push(format!("{own} is no module of lib.rs"));
        return wrong;
    };
    let mut named: Vec<String> = named(&trees).into_iter().collect();
    named.sort();
    for name in named {
        match order.iter().position(|other| *other == name) {
            Some(other) if other <= place || own == TIES_TOGETHER => {}
            Some(_) => wrong.push(format!("crate::{name}, which stands below {own}")),
            None => wrong.push(format!("crate::{name}, which is no module of lib.rs")),
        }
    }
    wrong
}

/// Does an un-indented `use super::…` of this file leave its module? That would be `crate::` in disguise.
fn climbs_out(below_src: &Path, source: &str) -> bool {
    let is_root = below_src.ends_with("mod.rs");
    let depth = below_src.components().count() - usize::from(is_root);
    let climb = format!("use {}", "super::".repeat(depth));
    source.lines().any(|line| line.starts_with(&climb) || line.starts_with(&format!("pub {climb}")))
}

/// All `.rs` files below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Where the modules live that a file declares: beside it, or in the directory of its name.
fn home(file: &Path) -> PathBuf {
    let roots = ["lib.rs", "main.rs", "mod.rs"];
    let is_root = roots.iter().any(|root| file.file_name().is_some_and(|name| name == *root));
    if is_root { file.parent().unwrap().to_owned() } else { file.with_extension("") }
}

/// The files that are compiled for tests alone, each as its path without `.rs`.
fn only_for_tests(files: &[PathBuf]) -> Vec<PathBuf> {
    let children = |file: &PathBuf| {
        let modules = declared(&fs::read_to_string(file).unwrap());
        let home = home(file);
        modules.into_iter().filter(|module| module.for_tests).map(move |module| home.join(module.name))
    };
    files.iter().flat_map(children).collect()
}

/// The module of a file: its first component below `src`. None for what isn't in the library.
fn module(below_src: &Path) -> Option<String> {
    let first = Path::new(below_src.components().next()?.as_os_str()).with_extension("");
    let name = first.to_str()?.to_owned();
    (!["lib", "main", "bin"].contains(&name.as_str())).then_some(name)
}

#[test]
fn each_module_uses_only_those_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order: Vec<String> =
        declared(&fs::read_to_string(src.join("lib.rs")).unwrap()).into_iter().map(|module| module.name).collect();
    assert!(!order.is_empty(), "lib.rs lists no modules");
    let mut found = Vec::new();
    files(&src, &mut found);
    let exempt = only_for_tests(&found);
    let mut wrong = Vec::new();
    for file in found.iter().filter(|file| !exempt.iter().any(|stem| file.with_extension("").starts_with(stem))) {
        let below = file.strip_prefix(&src).unwrap();
        let source = fs::read_to_string(file).unwrap();
        let mut note = |what: &str| wrong.push(format!("{}: {what}", below.display()));
        match module(below) {
            Some(own) => violations(&own, &source, &order).iter().for_each(|what| note(what)),
            None if says_unsafe(&tokens(&source)) => note("unsafe, outside sys"),
            None => {}
        }
        if climbs_out(below, &source) {
            note("use super::… out of its module; write crate::");
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_dispatcher_makes_no_system_call() {
    let dispatch = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dispatch");
    let mut found = Vec::new();
    files(&dispatch, &mut found);
    assert!(found.len() > 5, "where is it?");
    for file in found {
        let calls = system_calls(&fs::read_to_string(&file).unwrap());
        assert!(calls.is_empty(), "{}: {calls:?}", file.display());
    }
}

#[cfg(test)]
mod the_check_itself {
    use super::*;

    fn order() -> Vec<String> {
        ["sys", "log", "ledger", "server"].map(str::to_owned).to_vec()
    }

    #[test]
    fn reads_the_list_of_modules_in_order() {
        let source = "//! Head.\n#![deny(x)]\npub mod sys;\n/// Doc; with a semicolon.\nmod log;\npub use log::Event;\n\
                      // mod ghost;\n#[cfg(test)]\nmod model;\n#[cfg(test)]\nmod inline { mod inner; }\npub(crate) mod ledger;\n\
                      mod last { }\n";
        let module = |name: &str, for_tests| Declared { name: name.to_owned(), for_tests };
        let expected = [module("sys", false), module("log", false), module("model", true), module("ledger", false)];
        assert_eq!(declared(source), expected);
    }

    #[test]
    fn finds_a_use_from_below_however_it_is_written() {
        for source in [
            "use crate::ledger::Ledger;",
            "use crate::{sys::clock, ledger};",
            "use { crate::ledger::{Ledger, Ticket} };",
            "fn f() { let x = crate::ledger::Ledger::new(); }",
            "pub(crate) fn f(x: &crate :: ledger :: Ledger) {}",
            "#[cfg(test)] mod tests { use crate::ledger::*; }",
        ] {
            assert_eq!(violations("log", source, &order()), ["crate::ledger, which stands below log"], "{source}");
        }
    }

    #[test]
    fn accepts_uses_from_above_and_what_only_looks_like_a_use() {
        for source in [
            "use crate::sys::clock; use crate::log::Event; use crate::ledger::inner::Thing;",
            "// use crate::daemon;\n/* crate::daemon /* nested */ */ pub(crate) fn f() {}",
            "//! Called by [`crate::daemon`].\nconst A: &str = \"use crate::daemon;\"; const B: &str = r#\"crate::daemon\"#;",
            "use nix::daemon; use self::daemon::x;",
        ] {
            assert_eq!(violations("ledger", source, &order()), [] as [&str; 0], "{source}");
        }
    }

    #[test]
    fn finds_a_system_call_however_it_is_named() {
        for (source, path) in [
            ("use crate::sys::clock;", "crate::sys::clock"),
            ("use crate::{types::Now, system::{System, PATH}};", "crate::system::System"),
            ("fn f() { libc::getpid(); }", "libc::getpid"),
            ("use std::{io, net::{SocketAddr, TcpStream}};", "std::net::TcpStream"),
            ("fn f(x: std::os::fd::OwnedFd) {}", "std::os::fd::OwnedFd"),
        ] {
            assert_eq!(system_calls(source).first().map(String::as_str), Some(path), "{source}");
        }
        let none =
            "use crate::{syslog, types}; use std::net::{IpAddr, SocketAddr}; // std::fs\nuse std::time::Duration;";
        assert_eq!(system_calls(none), [] as [&str; 0]);
    }

    #[test]
    fn finds_unsafe_outside_sys_alone() {
        let source = "fn f() { g(|| { if true { unsafe { h() } } }) }";
        assert_eq!(violations("ledger", source, &order()), ["unsafe, outside sys"]);
        assert_eq!(violations("sys", source, &order()), [] as [&str; 0]);
        let talk =
            "// unsafe\n#![deny(unsafe_code)]\nconst S: &str = \"unsafe\"; const C: char = '\"'; fn f<'unsafe_>() {}";
        assert_eq!(violations("ledger", talk, &order()), [] as [&str; 0]);
    }

    #[test]
    fn knows_the_module_that_may_use_all_and_unknown_ones() {
        assert_eq!(violations("server", "use crate::{sys, log, ledger};", &order()), [] as [&str; 0]);
        assert_eq!(violations("attic", "", &order()), ["attic is no module of lib.rs"]);
        assert_eq!(violations("log", "use crate::attic;", &order()), ["crate::attic, which is no module of lib.rs"]);
    }

    #[test]
    fn sees_super_paths_that_leave_a_module() {
        let climbs = |path: &str, source: &str| climbs_out(Path::new(path), source);
        assert!(climbs("log.rs", "use super::ledger::Ledger;"));
        assert!(climbs("log/mod.rs", "pub use super::ledger::Ledger;"));
        assert!(climbs("log/text.rs", "use super::super::ledger::Ledger;"));
        assert!(!climbs("log/text.rs", "use super::Event;"));
        assert!(!climbs("log.rs", "mod tests {\n    use super::*;\n}"));
    }

    #[test]
    fn knows_the_module_of_a_file() {
        assert_eq!(module(Path::new("ledger.rs")).as_deref(), Some("ledger"));
        assert_eq!(module(Path::new("table/check/users.rs")).as_deref(), Some("table"));
        assert_eq!(module(Path::new("main.rs")), None);
        assert_eq!(module(Path::new("bin/oxinetctl.rs")), None);
        assert_eq!(home(Path::new("src/ledger.rs")), Path::new("src/ledger"));
        assert_eq!(home(Path::new("src/table/mod.rs")), Path::new("src/table"));
    }
}
