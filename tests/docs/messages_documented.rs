//! What the program may say is explained: each message in the source stands in DIAGNOSTICS of oxinetd(8), word for word.
//!
//! A message is any text of two words or more in a source file; what is filled in is written `...` in the page. Exempt are
//! the places below, each with its reason; a new one has to be given one, or its messages to be described. The verbs,
//! reasons and steps that log lines are made of are compared in `manual_pages`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Files and folders of `src/` whose texts are no diagnostics of the daemon, and why.
const EXEMPT: [(&str, &str); 16] = [
    ("admission/checks", "the rules that oxinetctl explain shows"),
    ("api", "answers to oxinetctl, and the schema"),
    ("arguments.rs", "the help"),
    ("builtin", "standard error of builtins, whose exit status BUILTINS explains"),
    ("compat", "errors of the table, which have file, line, column and key in front, and say what would be right"),
    ("config", "the same"),
    ("control/mod.rs", "answers to oxinetctl"),
    ("ctl", "oxinetctl, which has a page of its own"),
    ("fuzzed.rs", "for tests alone"),
    ("limits/bans.rs", "an answer to oxinetctl"),
    ("limits/histogram.rs", "what is wrong with the state of an upgrade, behind what stands in the page"),
    ("limits/ledger", "names of counts, in inconsistency lines and the audit"),
    ("limits/rate", "what is wrong with a key of the table, see below"),
    ("server/requests.rs", "answers to oxinetctl"),
    ("sys/descriptor.rs", "what is wrong with the state of an upgrade, behind what stands in the page"),
    ("system/connection.rs", "what a client of tcpmux is told, by RFC 1078"),
];

/// Texts elsewhere that are no diagnostics.
const NO_MESSAGES: [(&str, &str); 9] = [
    ("READY=1\nSTATUS=", "for the service manager, which shows the log beside it"),
    ("The last reload failed", "the same"),
    ("Serving {} services", "the same"),
    ("oxinetd: state of form", "the answer of a preflight to the daemon"),
    ("oxinetd: {problem}", "what stands in front of each error"),
    ("pid {} has no place in the ledger", "an assertion of debug builds; the log has an inconsistency"),
    ("ticket of pid {}", "what an inconsistency line holds"),
    ("no such ticket", "the same"),
    ("--{}: {state} is no descriptor", "of an option that no user gives"),
];

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name)
}

/// Every file of the program below a folder that may have diagnostics.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.strip_prefix(source("")).unwrap().to_str().unwrap().to_owned();
        let exempt = EXEMPT.iter().any(|(exempt, _)| *exempt == name);
        let tests = name.ends_with("tests") || name.ends_with("tests.rs");
        if exempt || tests || name.ends_with("fuzzed.rs") {
            continue;
        }
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The texts of a source, without those of attributes (comments of items are such) and of modules of tests.
fn texts(source: &str) -> Vec<String> {
    let stream = source.parse().expect("the source has balanced brackets");
    let mut found = Vec::new();
    collect(stream, &mut found);
    found
}

fn collect(stream: TokenStream, found: &mut Vec<String>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let says = |place: Option<usize>, what: &str| place.is_some_and(|place| trees[place].to_string() == what);
    for (place, tree) in trees.iter().enumerate() {
        let before = |back: usize| place.checked_sub(back);
        match tree {
            TokenTree::Group(group) => {
                let attribute = group.delimiter() == Delimiter::Bracket
                    && (says(before(1), "#") || says(before(1), "!") && says(before(2), "#"));
                let tests = says(before(2), "mod") && says(before(1), "tests");
                if !attribute && !tests {
                    collect(group.stream(), found);
                }
            }
            TokenTree::Literal(literal) => found.extend(value(&literal.to_string())),
            _ => {}
        }
    }
}

/// The value of a string literal, raw or not.
fn value(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('r') {
        return Some(raw.trim_matches('#').trim_matches('"').to_owned());
    }
    let body = literal.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::new();
    let mut rest = body.chars().peekable();
    while let Some(character) = rest.next() {
        match (character, rest.peek()) {
            ('\\', Some('\n')) => while rest.next_if(|character| character.is_whitespace()).is_some() {},
            ('\\', Some('n')) => text.extend(rest.next().map(|_| '\n')),
            ('\\', _) => text.extend(rest.next()),
            (other, _) => text.push(other),
        }
    }
    Some(text)
}

/// Has it two words side by side?
fn is_message(text: &str) -> bool {
    let words: Vec<_> = text.split(' ').map(|word| word.trim_matches(|c: char| c.is_ascii_punctuation())).collect();
    let is_word = |word: &str| word.len() > 1 && word.chars().all(|character| character.is_ascii_alphabetic());
    words.windows(2).any(|pair| is_word(pair[0]) && is_word(pair[1]))
        || text.contains(": {")
            && is_word(text.split(['.', ':']).next().unwrap().trim_start_matches("--"))
            && !text.starts_with('{')
}

/// The text with `...` for what is filled in: a name or nothing between braces, and how it is to be shown.
fn pattern(text: &str) -> String {
    let mut parts = text.split('{');
    let mut whole = parts.next().unwrap().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((filled, after)) if !filled.contains(' ') => whole += &format!("...{after}"),
            _ => whole += &format!("{{{part}"),
        }
    }
    // One gap, also where dots or other gaps stand beside it.
    while whole.contains("....") {
        whole = whole.replace("....", "...");
    }
    whole
}

/// The words of a section of the page, without macros.
fn section(page: &str, name: &str) -> String {
    let lines = page.lines().skip_while(|line| *line != format!(".Sh {name}")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with(".Sh "));
    let words = lines.flat_map(|line| {
        let macros = ["Li", "Ic", "Sy", "Dv", "Nm", "Fl", "Cm", "Ql", "Pa", "Sx", "Xr", "Ev"];
        let of_macro = line.starts_with('.');
        let words = line.split_whitespace().filter(move |word| !of_macro || !macros.contains(word));
        words.filter(|word| !word.starts_with('.') || word.starts_with("...")).collect::<Vec<_>>()
    });
    plain(&words.collect::<Vec<_>>().join(" "))
}

fn plain(text: &str) -> String {
    let text = text.replace("\\&", "").replace("\\-", "-").replace("\\(dq", "\"").replace("\\e", "\\");
    text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn messages_are_told_from_other_texts() {
    let source = "/// A comment of words.\n#[doc = \"more words\"]\nfn a() { log(\"one {} two\", \"word\", f!(\"a \\\n   b\")); } \
                  mod tests { fn b() { \"never seen here\" } }";
    assert_eq!(texts(source), ["one {} two", "word", "a b"]);
    assert!(is_message("handler {} was not ours") && is_message("daemon.sources: {error}"));
    assert!(!is_message("{}: {}") && !is_message("word") && !is_message("a=b"));
    assert_eq!(pattern("{} of {limit:?}: `{freebind: true}`"), "... of ...: `{freebind: true}`");
    assert_eq!(section(".Sh A\n.It Li daemon\\-x ... of\n.Pp\nmore\n.Sh B\nno\n", "A"), "daemon-x ... of more");
}

#[test]
fn each_message_is_in_the_manual() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/oxinetd.8")).unwrap();
    let (page, mut absent, mut known) = (section(&page, "DIAGNOSTICS"), BTreeSet::new(), 0);
    for file in files(&source("")) {
        for text in texts(&fs::read_to_string(&file).unwrap()) {
            if !is_message(&text) || NO_MESSAGES.iter().any(|(start, _)| text.starts_with(start)) {
                continue;
            }
            known += 1;
            let wanted = plain(pattern(&text).trim_matches(|c: char| c.is_whitespace() || ".;:(),".contains(c)));
            if !page.contains(&wanted) {
                absent.insert(format!("{}: {wanted}", file.strip_prefix(source("")).unwrap().display()));
            }
        }
    }
    assert!(known > 30, "this test no longer understands the source: it finds only {known} messages");
    assert!(
        absent.is_empty(),
        "DIAGNOSTICS of oxinetd(8) lacks:\n{}",
        absent.into_iter().collect::<Vec<_>>().join("\n")
    );
}

/// A failure at the start begins with what failed.
#[test]
fn each_step_of_the_start_of_the_daemon_is_in_the_manual() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/oxinetd.8")).unwrap();
    let (page, start) = (section(&page, "DIAGNOSTICS"), fs::read_to_string(source("server/start.rs")).unwrap());
    let steps: BTreeSet<_> = start.split("failed(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(steps.len() > 4, "this test no longer understands the start: {steps:?}");
    let absent: Vec<_> = steps.iter().filter(|step| !page.contains(&plain(step))).collect();
    assert!(absent.is_empty(), "DIAGNOSTICS of oxinetd(8) lacks: {absent:?}");
}

#[test]
fn exempt_files_and_texts_still_exist() {
    let all: Vec<String> =
        files(&source("")).iter().flat_map(|file| texts(&fs::read_to_string(file).unwrap())).collect();
    for (name, why) in EXEMPT {
        assert!(source(name).exists(), "{name} ({why})");
    }
    for (start, why) in NO_MESSAGES {
        assert!(all.iter().any(|text| text.starts_with(start)), "{start:?} ({why})");
    }
}
