//! Tests of the table as a whole: what a load gives, and that a dump gives it back.

use std::ffi::CString;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::change::{Plan, compare_tables};
use super::dump::dump;
use super::*;
use crate::compat::load;
use crate::limits::access::Span;
use crate::limits::rate::{PerFamily, Rate};
use crate::net::Prefixes;
use ipnet::IpNet;
use proptest::prelude::*;

/// Uses every key that has an effect; `USER` stands for the user who runs the test.
const RICH: &str = r##"
daemon:
  instances: 100
  drop_banned: kernel
  sources: { ipv4: 1000 }
  control: { path: /run/rich/control.sock, group: '0' }
  log: { to: /var/log/oxinetd.log, facility: local3, format: json, level: debug }
defaults:
  umask: "077"
  env: { LANG: C, A: below }
  rlimits: { nofile: 2048, core: 0 }
  per_source: { instances: 10, prefix: { ipv6: 56 } }
  socket: { backlog: 512, mode: "0600" }
  log: { exit: false, facility: local5 }
services:
  rich:
    listen: [9418, tcp4/9419, "udp/[::1]:69", unix:/run/rich.sock, unix-dgram:/run/rich.dgram, "mptcp/127.0.0.1:1"]
    wait: true
    enabled: true
    program: [/bin/sh, -c, 'echo "a: b" # c', 5, 1.10, ""]
    argv0: -sh
    user: USER
    directory: /tmp
    chroot: /
    nice: -5
    env: { A: above, B: yes, C: 1.10, D: "", "E F": "x\ny" }
    pass_env: [TZ, LC_ALL]
    rlimits: { as: 64M, cpu: 10:20, stack: 1M:unlimited, core: unlimited }
    stderr: null
    instances: unlimited
    when_full: refuse
    rate: 50/s
    max_load: 2.5
    times: [Mon-Fri 08:00-18:00, "22:00-06:00"]
    dry_run: true
    refuse: { text: "busy: come back\r\n" }
    lifetime: 1h30m
    socket:
      nodelay: true
      keepalive: true
      defer_accept: 10s
      freebind: true
      device: eth0
      mark: 7
      send_buffer: 64k
      receive_buffer: 1M
      owner: root:5
    log: { accept: false, refuse: false, to: syslog }
  plain:
    listen: 8080
    program: /bin/cat -u 'a b'
    banner: "220 hello\n"
    rate: 1000/h
    burst: 7
    per_source: { rate: 30/min, prefix: { ipv4: 24 }, exempt: [127.0.0.0/8, "::1"] }
    per_network: { instances: 20, rate: 5/day, burst: 2, exempt: 10.0.0.0/8 }
    allow: [192.0.2.0/24, "2001:db8::/32", 0.0.0.0/0]
    deny: 192.0.2.7
    penalties: { crash: 90s, exit: 10s, refused: 1s, min: 0s, exempt: 192.0.2.1 }
  trap: { listen: 8081, penalties: { trap: 1h } }
"##;

fn load_text(text: &str) -> Result<Loaded, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.yaml");
    fs::write(&file, text).unwrap();
    load(&[file]).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn own_name() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid).unwrap().map_or_else(|| uid.to_string(), |user| user.name)
}

fn rich() -> Table {
    load_text(&RICH.replace("USER", &own_name())).unwrap().table
}

fn words(words: &[&str]) -> Vec<CString> {
    words.iter().map(|word| CString::new(*word).unwrap()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_daemon_section_is_what_was_written() {
    let log = LogSettings {
        place: LogPlace {
            to: LogTarget::File(PathBuf::from("/var/log/oxinetd.log")),
            facility: 19,
            format: LogFormat::Json,
        },
        level: Level::Debug,
    };
    let sources = PerFamily { ipv4: 1000, ipv6: 65_536 };
    let control = Control { place: ControlPlace::At("/run/rich/control.sock".into()), group: Some(0) };
    assert_eq!(rich().daemon, Settings { instances: 100, sources, drop_banned: DropBanned::Kernel, control, log });
    let place = LogPlace { to: LogTarget::Syslog, facility: 3, format: LogFormat::Text };
    let default = LogSettings { place, level: Level::Info };
    let sources = PerFamily { ipv4: 65_536, ipv6: 65_536 };
    let control = Control { place: ControlPlace::Default, group: None };
    let daemon = Settings { instances: 4096, sources, drop_banned: DropBanned::Daemon, control, log: default };
    assert_eq!(load_text("# nothing\n").unwrap().table, Table { daemon, services: vec![] });
    assert!(
        load_text("").unwrap_err()[0]
            .ends_with("the file is empty; a table without services has at least `services: {}`")
    );
}

#[test]
fn the_control_socket_may_be_a_word_a_path_or_a_map() {
    let place = |text: &str| load_text(&format!("daemon: {{ control: {text} }}")).unwrap().table.daemon.control.place;
    assert_eq!(place("none"), ControlPlace::None);
    assert_eq!(place("{ group: '0' }"), ControlPlace::Default);
    assert_eq!(place("/run/x.sock"), ControlPlace::At("/run/x.sock".into()));
    assert_eq!(place("{ path: none }"), ControlPlace::None);
    assert!(load_text("daemon: { control: x.sock }").is_err());
}

#[test]
fn a_service_is_what_was_written_over_the_defaults() {
    let service = &rich().services[0];
    let listen: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
    let expected = [
        "tcp/9418",
        "tcp4/9419",
        "udp/[::1]:69",
        "unix:/run/rich.sock",
        "unix-dgram:/run/rich.dgram",
        "mptcp/127.0.0.1:1",
    ];
    assert_eq!(listen, expected);
    assert_eq!(service.program.path.to_str(), Ok("/bin/sh"));
    assert_eq!(service.program.argv, words(&["-sh", "-c", "echo \"a: b\" # c", "5", "1.10", ""]));
    assert!(service.wait && service.enabled);
    assert_eq!(service.directory.to_str(), Ok("/tmp"));
    assert_eq!(service.chroot.as_deref().map(|root| root.to_str()), Some(Ok("/")));
    assert_eq!((service.umask, service.nice), (0o077, Some(-5)));
    assert_eq!(
        service.env,
        pairs(&[("LANG", "C"), ("A", "above"), ("B", "yes"), ("C", "1.10"), ("D", ""), ("E F", "x\ny")])
    );
    assert_eq!(service.pass_env, ["TZ", "LC_ALL"]);
    let limit = |resource, soft, hard| Rlimit { resource, soft, hard };
    let limits = [
        limit(Resource::Nofile, 2048, 2048),
        limit(Resource::As, 64 << 20, 64 << 20),
        limit(Resource::Cpu, 10, 20),
        limit(Resource::Stack, 1 << 20, u64::MAX),
        limit(Resource::Core, u64::MAX, u64::MAX),
    ];
    assert_eq!(service.rlimits, limits);
    assert_eq!((service.stderr, service.instances, service.when_full), (Stderr::Null, None, WhenFull::Refuse));
    assert_eq!(service.per_source, unlimited(), "its program sees the clients, nobody else");
    assert_eq!((service.rate, service.max_load), (limit_of(50, 1, 50), Some(2.5)));
    let office = Span { days: 0b011_1110, from: 480, to: 1080 };
    assert_eq!(service.times, [office, Span { days: 0b111_1111, from: 1320, to: 360 }]);
    assert!(service.dry_run);
    assert_eq!(service.refuse, Refuse::Text(b"busy: come back\r\n".to_vec()));
    assert_eq!(service.lifetime, Some(Duration::from_secs(5400)));
    let own = OwnLog { to: Some(LogTarget::Syslog), facility: Some(21), format: None };
    assert_eq!(service.log, LogChoice { accept: false, exit: false, refuse: false, own });
    let socket = SocketOptions {
        backlog: Some(512),
        nodelay: true,
        keepalive: true,
        defer_accept: Some(Duration::from_secs(10)),
        freebind: true,
        device: Some("eth0".to_owned()),
        mark: Some(7),
        send_buffer: Some(65536),
        receive_buffer: Some(1 << 20),
        owner: Some((0, 5)),
        mode: Some(0o600),
    };
    assert_eq!(service.socket, socket);
    assert_eq!(service.origin.origin().line, 16);
}

fn unlimited() -> PerSource {
    let prefix = Prefixes { ipv4: 32, ipv6: 64 };
    PerSource { prefix, instances: None, rate: None, exempt: vec![] }
}

fn limit_of(events: u32, seconds: u64, burst: u32) -> Option<RateLimit> {
    let per = Duration::from_secs(seconds);
    Some(RateLimit { events, per, burst, rate: Rate::new(events, per, burst).unwrap() })
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn limits_are_what_was_written_over_the_defaults() {
    let service = &rich().services[1];
    assert_eq!(service.rate, limit_of(1000, 3_600, 7));
    let source = PerSource {
        prefix: Prefixes { ipv4: 24, ipv6: 56 },
        instances: Some(10),
        rate: limit_of(30, 60, 20),
        exempt: nets(&["127.0.0.0/8", "::1/128"]),
    };
    assert_eq!(service.per_source, source);
    let network = PerSource {
        prefix: Prefixes { ipv4: 24, ipv6: 48 },
        instances: Some(20),
        rate: limit_of(5, 86_400, 2),
        exempt: nets(&["10.0.0.0/8"]),
    };
    assert_eq!(service.per_network, Some(network));
    assert_eq!(service.allow, nets(&["192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"]), "in the order written");
    assert_eq!(service.deny, nets(&["192.0.2.7/32"]));
}

#[test]
fn a_burst_that_nobody_chose_is_what_a_second_brings_or_twenty() {
    for (rate, burst) in [("50/s", 50), ("1/s", 1), ("30/min", 20), ("5/min", 5), ("1000/h", 20), ("3/day", 3)] {
        let text = format!("services: {{ a: {{ listen: 8080, program: /bin/cat, rate: {rate} }} }}");
        assert_eq!(load_text(&text).unwrap().table.services[0].rate.unwrap().burst, burst, "{rate}");
    }
}

#[test]
fn what_is_not_written_has_its_default() {
    let text =
        "services:\n  a: { listen: 8080, program: /bin/cat -u 'a b' }\n  b: { listen: udp/69, program: /bin/cat }\n";
    let table = load_text(text).unwrap().table;
    let service = &table.services[0];
    assert_eq!(service.program.argv, words(&["cat", "-u", "a b"]));
    assert_eq!((service.wait, service.enabled, service.credentials.as_ref()), (false, true, None));
    assert_eq!((service.directory.to_str(), service.umask, service.instances), (Ok("/"), 0o022, Some(64)));
    assert_eq!(service.per_source, unlimited());
    assert_eq!((service.rate, &service.per_network, service.max_load, service.dry_run), (None, &None, None, false));
    assert!(service.allow.is_empty() && service.deny.is_empty() && service.times.is_empty());
    assert_eq!((&service.refuse, service.stderr, service.when_full), (&Refuse::Reset, Stderr::Daemon, WhenFull::Queue));
    assert_eq!(service.log, LogChoice { accept: true, exit: true, refuse: true, own: OwnLog::default() });
    assert_eq!(service.socket, SocketOptions::default());
    assert!(table.services[1].wait, "udp waits unless told otherwise");
    assert_eq!(table.services[1].listen.len(), 2);
}

#[test]
fn the_daemons_own_user_needs_no_privilege() {
    let of = |keys: &str| {
        let text = format!("services:\n  a: {{ listen: 8080, program: /bin/cat, {keys} }}\n");
        load_text(&text).unwrap().table.services.remove(0).credentials.clone()
    };
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let named = of(&format!("user: {}", own_name()));
    assert_eq!(named.is_some(), uid.is_root(), "only root has anything to change");
    let grouped = of(&format!("user: {uid}, group: {gid}")).unwrap();
    assert_eq!((grouped.uid, grouped.gid), (uid.as_raw(), gid.as_raw()));
    assert_eq!(of(&format!("group: {gid}")).unwrap().uid, uid.as_raw());
}

#[test]
fn only_root_can_run_handlers_as_others() {
    let text = "services:\n  a: { listen: 8080, program: /bin/cat, user: nobody, groups: none }\n";
    match load_text(text) {
        Ok(loaded) => {
            assert!(nix::unistd::geteuid().is_root());
            let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
            let credentials = loaded.table.services[0].credentials.clone().unwrap();
            assert_eq!((credentials.uid, credentials.gid), (nobody.uid.as_raw(), nobody.gid.as_raw()));
            assert_eq!((credentials.user.as_str(), credentials.groups), ("nobody", vec![]));
        }
        Err(problems) => {
            assert_eq!(problems.len(), 1);
            assert!(problems[0].contains(":2:47: services.a.user: handlers cannot run as nobody: the daemon runs as "));
        }
    }
}

#[test]
fn defaults_reach_into_included_files_and_no_further() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write(
        "main.yaml",
        "include: 'd?.yaml'\ndefaults: { nice: 1, instances: 1 }\nservices:\n  m: { listen: 1, program: /bin/cat }\n",
    );
    write("d2.yaml", "defaults: { nice: 2 }\nservices:\n  two: { listen: 2, program: /bin/cat }\n");
    write("d1.yaml", "services:\n  one: { listen: 3, program: /bin/cat, instances: 3 }\n");
    write("other.yaml", "services:\n  other: { listen: 4, program: /bin/cat }\n");
    let files = ["main.yaml", "other.yaml"].map(|name| directory.path().join(name));
    let table = load(&files).unwrap().table;
    let found: Vec<_> = table.services.iter().map(|s| (s.name.as_str(), s.nice, s.instances)).collect();
    let expected =
        [("m", Some(1), Some(1)), ("one", Some(1), Some(3)), ("two", Some(2), Some(1)), ("other", None, Some(64))];
    assert_eq!(found, expected);
}

#[test]
fn merge_keys_work_and_chains_of_them() {
    let text = "services:\n  a: &a { listen: 1, program: /bin/cat, nice: 5 }\n  b: &b { <<: *a, listen: 2 }\n  c: { <<: *b, listen: 3, nice: 6 }\n";
    let table = load_text(text).unwrap().table;
    let found: Vec<_> = table.services.iter().map(|s| (s.name.as_str(), s.nice, s.listen[0].to_string())).collect();
    let port = |port: &str| format!("tcp/{port}");
    assert_eq!(found, [("a", Some(5), port("1")), ("b", Some(5), port("2")), ("c", Some(6), port("3"))]);
}

fn without_origins(mut table: Table) -> Table {
    for service in table.services.iter_mut().map(Rc::make_mut) {
        (service.origin, service.origins) = (Location::default(), Origins::default());
    }
    table
}

#[test]
fn a_dump_reads_back_to_the_same_table_and_the_same_bytes() {
    let table = rich();
    let first = dump(&table);
    let again = load_text(&first).unwrap_or_else(|problems| panic!("{problems:?}\n{first}"));
    assert_eq!(without_origins(again.table.clone()), without_origins(table), "{first}");
    assert_eq!(dump(&again.table), first);
}

#[test]
fn a_plan_sees_everything_but_where_a_service_stands() {
    let entry = |name: &str, port: u16| format!("  {name}: {{ listen: {port}, program: /bin/cat }}\n");
    let table = |entries: &[String]| load_text(&format!("services:\n{}", entries.concat())).unwrap().table;
    let old = table(&[entry("kept", 1), entry("altered", 2), entry("removed", 3)]);
    let new = table(&[entry("added", 4), "\n".to_owned(), entry("altered", 5), entry("kept", 1)]);
    let names = |name: &str| vec![name.to_owned()];
    let expected =
        Plan { added: names("added"), removed: names("removed"), altered: names("altered"), kept: names("kept") };
    assert_eq!(compare_tables(&old, &new), expected);
}

/// A piece of YAML that is often nearly right.
fn piece() -> impl Strategy<Value = String> {
    static PIECES: &[&str] = &[
        "services:\n",
        "  a:\n",
        "    listen: 80\n",
        "    program: /bin/cat\n",
        "    env: {A: b}\n",
        "<<: *a",
        "&a ",
        "*a",
        "- ",
        "? ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "'",
        "\"",
        "\\0",
        "|\n",
        ">-\n",
        "!!str ",
        "---\n",
        "...\n",
        "%TAG ",
        "# c\n",
        "\n",
        "  ",
        "\t",
        "null",
        "~",
        "18446744073709551616",
        "1e999",
        "é",
        "\u{feff}",
        "defaults:\n",
        "daemon: {}\n",
        "    per_source: {instances: 1}\n",
        "\r\n",
        "@",
        "`",
    ];
    prop_oneof![4 => prop::sample::select(PIECES).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

/// Texts that are hard to quote.
fn hard_text() -> impl Strategy<Value = String> {
    static HARD: &[&str] = &[
        "yes", "null", "~", "1.10", "0x10", "- a", ": ", "#", " x ", "a\nb\n\n", "\t", "'", "\"", "1e3", "=", "<<",
        "\u{85}",
    ];
    prop_oneof![prop::sample::select(HARD).prop_map(str::to_owned), "[^\0]{0,12}"]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(pieces in prop::collection::vec(piece(), 0..60)) {
        let _ = load_text(&pieces.concat());
    }

    #[test]
    fn no_damage_to_a_table_makes_it_panic(at in 0..RICH.len(), length in 0..40_usize, piece in piece()) {
        let mut bytes = RICH.as_bytes().to_vec();
        bytes.splice(at..(at + length).min(RICH.len()), piece.into_bytes());
        let _ = load_text(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f.yaml");
        fs::write(&file, bytes).unwrap();
        let _ = load(&[file]);
    }

    #[test]
    fn every_text_survives_a_dump(
        words in prop::collection::vec(hard_text(), 0..4),
        // `<<` asks for a merge of maps, whether it is quoted or not.
        env in prop::collection::hash_map("[^\0=]{1,6}".prop_filter("merge", |name| name != "<<"), hard_text(), 0..4),
        banner in hard_text(),
        lifetime in 1..10_000_000_u64,
        limit in (any::<u64>(), any::<u64>()),
    ) {
        let mut table = rich();
        let service = Rc::make_mut(&mut table.services[1]);
        service.program.argv.extend(words.iter().map(|word| CString::new(word.as_str()).unwrap()));
        service.env = env.into_iter().collect();
        service.banner = banner.into_bytes();
        service.lifetime = Some(Duration::from_millis(lifetime));
        let (soft, hard) = (limit.0.min(limit.1), limit.0.max(limit.1));
        service.rlimits = vec![Rlimit { resource: Resource::Fsize, soft, hard }];
        let text = dump(&table);
        let again = load_text(&text).map_err(|problems| TestCaseError::fail(format!("{problems:?}\n{text}")))?.table;
        prop_assert_eq!(without_origins(again), without_origins(table), "{}", text);
    }
}
