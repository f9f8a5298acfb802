//! ARCHITECTURE.md names what is there: files, folders, and the functions of the two ways.

use super::{path, read};

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_path_exists() {
    let page = read("ARCHITECTURE.md");
    let roots = ["src/", "tests/", "fuzz/", "etc/"];
    let paths: Vec<_> = quoted(&page)
        .filter(|word| roots.iter().any(|root| word.starts_with(root)) && !word.contains(['*', ' ']))
        .filter(|word| !path(word).exists())
        .collect();
    assert!(paths.is_empty(), "{paths:?}");
}

#[test]
fn each_room_is_a_module() {
    let (page, modules) = (read("ARCHITECTURE.md"), read("src/lib.rs"));
    let rooms: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(room, _)| room.trim_end_matches('/').trim_end_matches(".rs"))
        .filter(|room| path(&format!("src/{room}")).exists() || path(&format!("src/{room}.rs")).exists())
        .collect();
    let declared = |room: &&str| modules.contains(&format!("mod {room};"));
    assert!(rooms.len() > 14 && rooms.iter().all(declared), "{rooms:?}");
}

#[test]
fn each_function_of_the_two_ways_is_in_its_file() {
    let page = read("ARCHITECTURE.md");
    let (_, ways) = page.split_once("## The way of a connection").unwrap();
    let (connection, rest) = ways.split_once("## The way of an exit").unwrap();
    let (exit, _) = rest.split_once("\n## ").unwrap();
    let mut found = 0;
    let mut look = |file: &str, names: &str| {
        let source = read(&format!("src/dispatch/{file}"));
        for name in quoted(names).filter(|name| !name.contains(['.', ':', '/', ' '])) {
            assert!(source.contains(&format!("fn {name}(")), "{file}: no function {name}");
            found += 1;
        }
    };
    for row in connection.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (file, names) = row.split_once('`').unwrap();
        look(file, names);
    }
    // Listeners are looked after in a file of their own.
    let (reaper, polled) = exit.split_once("→ `update_polling_of`").unwrap();
    look("reaper.rs", reaper);
    look("listeners.rs", &format!("`update_polling_of`{}", polled.split_once('(').unwrap().0));
    assert!(found > 14, "this test no longer understands the page: it finds only {found} functions");
}
