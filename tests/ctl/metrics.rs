//! The metrics: their form and names, the dashboard that uses them, and a real Prometheus that scrapes them through
//! oxinetd itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{
    self, Daemon, Setup, ask, connect, connect_from, free_port, hold, services, skip, wait_for, wait_until,
};

const OXINETCTL: &str = env!("CARGO_BIN_EXE_oxinetctl");

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn metrics(daemon: &Daemon, arguments: &[&str]) -> String {
    let mut command = Command::new(OXINETCTL);
    let output =
        command.arg("--socket").arg(daemon.path("control.sock")).arg("metrics").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A daemon that has seen all kinds of things: served, refused and failed connections, and handlers that ended in each
/// way; with a service for metrics. The ports of `cat`, `broken` and `metrics`.
fn busy() -> (Daemon, [u16; 3]) {
    let metrics = free_port();
    let ([cat, broken], table) = services([
        ("cat", "program: /bin/cat, instances: 9, per_source: { instances: 2, rate: 999/s }, refuse: close"),
        ("broken", "program: FOLDER/gone"),
    ]);
    let (_, more) = services([
        ("fails", "program: [/bin/sh, -c, exit 3]"),
        ("dies", "program: [/bin/sh, -c, kill -9 $$]"),
        ("unlimited", "program: /bin/true, instances: unlimited"),
        ("tried", "program: /bin/true, deny: 127.0.0.0/8, dry_run: true"),
    ]);
    let more = more.trim_start_matches("services:\n");
    // The shipped entry, but for places.
    let example = read("etc/services.d/metrics.yaml.example");
    let entry = example.split("services:\n").nth(1).unwrap();
    let entry = entry
        .replace("127.0.0.1:9798", &format!("127.0.0.1:{metrics}"))
        .replace("[::1]:9798", &format!("127.0.0.2:{metrics}"))
        .replace("/usr/sbin/oxinetctl,", &format!("{OXINETCTL}, --socket, FOLDER/control.sock,"));
    let entry = if support::is_root() { entry } else { entry.replace("    user: root\n", "") };
    let setup = Setup::new("");
    fs::copy("/bin/true", setup.folder.path().join("gone")).unwrap();
    setup.write(&format!("{table}{more}{entry}"));
    let daemon = setup.start();
    fs::remove_file(daemon.path("gone")).unwrap();
    stir(&daemon, cat, broken);
    (daemon, [cat, broken, metrics])
}

/// Some of each.
fn stir(daemon: &Daemon, cat: u16, broken: u16) {
    wait_until("those of the last time to be gone", || daemon.count("cat") == 0);
    let _sessions = [hold(cat), hold(cat)];
    assert!(ask(connect(cat), b"").is_ok_and(|answer| answer.is_empty()), "a third is refused");
    drop(ask(connect_from([127, 0, 0, 5], cat).unwrap(), b"x"));
    let _ = ask(connect(broken), b"");
    for service in ["fails", "dies", "unlimited", "tried"] {
        let endpoint = daemon.status()["services"][service]["listeners"][0]["endpoint"].as_str().unwrap().to_owned();
        let _ = ask(connect(endpoint.rsplit('/').next().unwrap().parse().unwrap()), b"");
    }
}

/// The names of the samples, and of the families with their types.
fn names(text: &str) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    (samples, types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect())
}

#[test]
fn names_labels_and_values_are_in_order() {
    let (daemon, [cat, ..]) = busy();
    wait_until("the ends", || daemon.status()["handlers"] == 0);
    let open = metrics(&daemon, &[]);
    let plain = metrics(&daemon, &["--text", "prometheus"]);
    assert!(open.ends_with("\n# EOF\n") && !plain.contains("# EOF"));
    let (samples, types) = names(&open);
    assert_eq!(samples, names(&plain).0, "the same samples in both");
    for (family, kind) in &types {
        assert!(family.starts_with("oxinetd_") && !family.ends_with("_total"), "{family}");
        let sample = match kind.as_str() {
            "counter" => format!("{family}_total"),
            "info" => format!("{family}_info"),
            "histogram" => format!("{family}_bucket"),
            _ => family.clone(),
        };
        assert!(samples.contains(&sample), "{family} has no sample, so this test does not try it");
        assert!(open.contains(&format!("# HELP {family} ")), "{family}");
    }
    let (_, types) = names(&plain);
    for name in &samples {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(types.contains_key(family), "{name} has no type");
    }
    for address in ["127.0.0.1\"", "127.0.0.5", "source=\""] {
        assert!(!open.contains(address), "an address is no label: {address}");
    }
    for line in [
        "oxinetd_connections_accepted_total{service=\"cat\"} 3",
        "oxinetd_connections_refused_total{service=\"cat\",reason=\"source_instances\"} 1",
        "oxinetd_spawn_failures_total{service=\"broken\",step=\"exec\"} 1",
        "oxinetd_handlers_exited_total{service=\"cat\",kind=\"success\"} 3",
        "oxinetd_handlers_exited_total{service=\"fails\",kind=\"failure\"} 1",
        "oxinetd_handlers_exited_total{service=\"dies\",kind=\"signal\"} 1",
        "oxinetd_handler_duration_seconds_count{service=\"cat\"} 3",
        "oxinetd_handler_duration_seconds_bucket{service=\"cat\",le=\"+Inf\"} 3",
        "oxinetd_handlers_limit{service=\"cat\"} 9",
        "oxinetd_listeners{service=\"cat\",state=\"listening\"} 1",
        "oxinetd_audit_drifts 0",
    ] {
        assert!(open.lines().any(|found| found == line), "{line} is not in {open}");
    }
    assert!(!open.contains("oxinetd_handlers_limit{service=\"unlimited\"}"), "no limit, no sample");
    // What a histogram counts up to a bound never goes down with a higher bound.
    let buckets =
        open.lines().filter(|line| line.starts_with("oxinetd_handler_duration_seconds_bucket{service=\"cat\""));
    let counts: Vec<u64> = buckets.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(counts.len() > 4 && counts.is_sorted(), "{counts:?}");
    drop(hold(cat));
}

#[test]
fn manual_has_each_metric_and_no_other() {
    let (daemon, _) = busy();
    let (_, types) = names(&metrics(&daemon, &["--text", "prometheus"]));
    let page = read("man/oxinetctl.8");
    let section = page.split(".Sh METRICS\n").nth(1).unwrap().split("\n.Sh ").next().unwrap();
    let items = section.lines().filter_map(|line| line.strip_prefix(".It Li "));
    let names = items.flat_map(|item| item.split(" Brq").next().unwrap().split(" , "));
    let page: BTreeSet<_> = names.map(|name| format!("oxinetd_{}", name.trim())).collect();
    assert_eq!(page, types.into_keys().collect());
}

/// The queries of the dashboard, as Grafana sends them for all machines.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/oxinetd.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    expressions.map(|text| text.replace("$__rate_interval", "1m").replace("$instance", ".*")).collect()
}

/// The names of metrics in a query.
fn used(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("oxinetd_"))
}

#[test]
fn the_dashboard_uses_only_metrics_that_exist() {
    let (daemon, _) = busy();
    let (samples, _) = names(&metrics(&daemon, &[]));
    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    for query in &queries {
        assert!(used(query).count() > 0, "{query}");
        used(query).for_each(|name| assert!(samples.contains(name), "{name} in {query}"));
    }
}

#[test]
fn promtool_finds_no_fault() {
    if support::installed("promtool").is_none() {
        return skip("promtool is not installed");
    }
    let (daemon, _) = busy();
    let mut promtool = Command::new("promtool");
    let promtool =
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().unwrap();
    child.stdin.take().unwrap().write_all(metrics(&daemon, &["--text", "prometheus"]).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Asks over HTTP: the head of the answer and its body.
fn get(port: u16, target: &str, fields: &str) -> (String, String) {
    let mut stream = connect(port);
    stream.write_all(format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n{fields}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head.to_owned(), body.to_owned())
}

#[test]
fn http_client_chooses_the_form() {
    let (daemon, [.., port]) = busy();
    let (head, body) = get(port, "/metrics", "");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())) && body.contains("# TYPE oxinetd_handlers gauge")
    );
    let (head, body) = get(port, "/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(head.contains("Content-Type: application/openmetrics-text") && body.ends_with("# EOF\n"), "{head}");
    assert!(get(port, "/", "").0.starts_with("HTTP/1.1 404 "));
    // Garbage, half a request and a head without end are answered, and leave nothing behind.
    for (request, status) in [("garbage\r\n\r\n".to_owned(), "400"), ("GET /metrics".to_owned(), "400")] {
        let answer = String::from_utf8(ask(connect(port), request.as_bytes()).unwrap()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
    }
    let mut endless: TcpStream = connect(port);
    let _ = endless.write_all(&[b'x'; 16 * 1024]);
    let _ = endless.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{:?}", String::from_utf8_lossy(&answer));
    wait_until("the end of the handlers", || daemon.count("metrics") == 0);
}

#[test]
fn process_that_reads_the_request_has_no_privilege() {
    if !support::is_root() {
        return skip("needs root");
    }
    let (daemon, [.., port]) = busy();
    let _silent = connect(port);
    let fields = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
        field("Uid:").filter(|ids| !ids.starts_with('0')).zip(field("Groups:")).zip(field("CapEff:"))
    };
    let ids = wait_for("a handler without privilege", || daemon.children().into_iter().find_map(fields));
    let ((uid, groups), capabilities) = ids;
    assert_eq!((uid.as_str(), groups.as_str()), ("65534\t65534\t65534\t65534", ""));
    assert_eq!(capabilities.trim_matches('0'), "");
}

/// A server that is ended when the test is over.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Prometheus answers to a query: how many series have a value.
fn series(port: u16, query: &str) -> usize {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return 0 };
    let _ = write!(stream, "GET /api/v1/query?query={encoded} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    if value["status"] == "error" {
        panic!("{query}: {body}");
    }
    let results = value["data"]["result"].as_array().map_or(&[][..], |results| results);
    results.iter().filter(|result| result["value"][1] != "NaN").count()
}

#[test]
fn prometheus_has_data_for_every_query_of_the_dashboard() {
    let Some(prometheus) = support::installed("prometheus") else { return skip("prometheus is not installed") };
    let (daemon, [cat, broken, port]) = busy();
    let (config, web) = (daemon.path("prometheus.yml"), free_port());
    fs::write(
        &config,
        format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n  - job_name: oxinetd\n    \
             static_configs: [{{ targets: ['127.0.0.1:{port}'] }}]\n"
        ),
    )
    .unwrap();
    let mut command = Command::new(prometheus);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", daemon.path("tsdb").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{web}"));
    command.stdout(Stdio::null()).stderr(fs::File::create(daemon.path("prometheus.log")).unwrap());
    let _server = Server(command.spawn().unwrap());
    wait_until("a scrape", || series(web, "up == 1") == 1);
    // A rate needs two scrapes, with something between them.
    let mut left = queries();
    wait_until("data for every query", || {
        stir(&daemon, cat, broken);
        left.retain(|query| series(web, query) == 0);
        left.is_empty()
    });
    assert_eq!(series(web, "oxinetd_build_info"), 1);
}
