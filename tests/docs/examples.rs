//! Examples of the manual pages, of the README and of `etc/` are tables without a fault, by `--check`.
//!
//! An example whose comment `# Needs: …` names a file, `user NAME` or `group NAME` that this machine lacks is skipped, and
//! says so; so is what only root may have, if another user runs the tests.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::{DAEMON, FOR_ROOT, TABLE, check, oxinetd, path, read};

/// The literal blocks of a page, without roff's escapes, as far as they are tables.
fn examples_of_page(page: &str) -> Vec<String> {
    let blocks = page.split("\n.Bd -literal").skip(1);
    let bodies = blocks.map(|block| block.split_once('\n').unwrap().1.split("\n.Ed").next().unwrap());
    let plain =
        bodies.map(|body| body.replace("\\e", "\\").replace("\\(dq", "\"").replace("\\-", "-").replace("\\&", ""));
    plain.filter(|text| is_table(text)).map(|text| text + "\n").collect()
}

fn examples_of_markdown(text: &str) -> Vec<String> {
    text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn is_table(text: &str) -> bool {
    text.lines().any(|line| ["include:", "daemon:", "defaults:", "services:"].iter().any(|key| line.starts_with(key)))
}

/// What an example says it needs and this machine lacks.
fn lacks(example: &str) -> Vec<String> {
    let needs = example.lines().filter_map(|line| line.strip_prefix("# Needs: ")).flat_map(|line| line.split(", "));
    let mut lacks: Vec<String> = needs.filter(|need| !is_here(need)).map(str::to_owned).collect();
    let keys = example.lines().filter_map(|line| line.trim_start().split_once(": "));
    if !geteuid().is_root() && keys.into_iter().any(|(key, _)| FOR_ROOT.contains(&key)) {
        lacks.push("root".to_owned());
    }
    lacks
}

fn is_here(need: &str) -> bool {
    let listed = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| line.split(':').next() == Some(name))
    };
    match need.split_once(' ') {
        Some(("user", name)) => listed("/etc/passwd", name),
        Some(("group", name)) => listed("/etc/group", name),
        _ => Path::new(need).exists(),
    }
}

/// Runs `--check` on an example, or says loudly what keeps it from doing so.
fn must_check_clean(name: &str, example: &str) {
    let lacks = lacks(example);
    if !lacks.is_empty() {
        eprintln!("skipped: {name} needs {}", lacks.join(", "));
        return;
    }
    let (errors, good) = check(example);
    assert!(good && errors.is_empty(), "{name}: {errors}\n{example}");
}

#[test]
fn unmet_needs_of_an_example_are_found() {
    let example =
        "# Needs: /bin/sh, user root, group root\n# Needs: /no/such/program, user no-such-user\nservices: {}\n";
    assert_eq!(lacks(example), ["/no/such/program", "user no-such-user"]);
}

#[test]
fn examples_of_the_manuals_check_clean() {
    for (page, least) in [(DAEMON, 1), (TABLE, 5)] {
        let examples = examples_of_page(&read(page));
        assert!(examples.len() >= least, "{page}: {} examples found", examples.len());
        for (number, example) in examples.iter().enumerate() {
            must_check_clean(&format!("{page}, example {}", number + 1), example);
        }
    }
}

#[test]
fn examples_of_the_readme_check_clean() {
    let examples = examples_of_markdown(&read("README.md"));
    assert!(!examples.is_empty(), "README.md has no example");
    for (number, example) in examples.iter().enumerate() {
        must_check_clean(&format!("README.md, example {}", number + 1), example);
    }
}

#[test]
fn files_of_etc_check_clean() {
    for name in ["etc/oxinetd.yaml", "etc/quickstart.yaml"] {
        let output = oxinetd(&["--check", "-c", path(name).to_str().unwrap()]);
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
    }
    let examples: Vec<PathBuf> =
        fs::read_dir(path("etc/services.d")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        let name = example.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.ends_with(".yaml.example"), "{name}: an active service has no place in the default files");
        must_check_clean(&name, &fs::read_to_string(&example).unwrap());
    }
}
