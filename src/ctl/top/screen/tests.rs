use super::super::rates::ServiceRates;
use super::*;
use crate::api::{ListenerState, ListenerStatus, SourceCount};

fn service(handlers: u32) -> ServiceStatus {
    let listener = ListenerStatus { endpoint: "tcp/7".to_owned(), state: ListenerState::Listening, reason: None };
    ServiceStatus { listed: true, handlers, instances: Some(64), listeners: vec![listener], ..ServiceStatus::default() }
}

fn snapshot() -> Snapshot {
    let source = |number: u32| SourceCount {
        service: "git".to_owned(),
        source: format!("2001:db8:ffff:{number:x}::/64"),
        handlers: 10 - number,
        instances: Some(10),
    };
    Snapshot {
        version: "1.2.3".to_owned(),
        uptime_seconds: 100.0,
        handlers: 17,
        instances: 4096,
        services: (0..40).map(|number| (format!("service-{number:02}"), service(number))).collect(),
        sources: (0..9).map(source).collect(),
        ..Snapshot::default()
    }
}

fn lines(width: usize, height: usize, change: impl Fn(&mut ScreenView<'_>)) -> Vec<String> {
    let now = snapshot();
    let mut rates = SecondRates { accepted: 1234.5, ..SecondRates::default() };
    rates.services.insert("service-05".to_owned(), ServiceRates { accepted: 1234.5, refused: 2.0 });
    rates.reasons.insert("source_instances".to_owned(), 2.0);
    let interval = Duration::from_secs(1);
    let mut view = ScreenView {
        now: &now,
        rates: &rates,
        sort: SortColumn::Handlers,
        skip: 0,
        interval,
        trouble: None,
        colour: false,
        blocks: false,
    };
    change(&mut view);
    draw_screen(&view, width, height)
}

#[test]
fn it_fits_into_every_size() {
    for width in (1..30).chain([80, 200, 400]) {
        for height in (1..30).chain([50, 100]) {
            for colour in [false, true] {
                let lines = lines(width, height, |view| (view.colour, view.blocks) = (colour, colour));
                assert!(lines.len() <= height, "{} lines at {width}x{height}", lines.len());
                let widest = lines.iter().map(|line| line::visible_width(line)).max().unwrap_or(0);
                assert!(widest <= width, "{widest} columns at {width}x{height}: {lines:#?}");
            }
        }
    }
}

#[test]
fn at_80_by_24_everything_is_there() {
    let lines = lines(80, 24, |_| ());
    assert_eq!(lines.len(), 24);
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    for text in ["oxinetd 1.2.3", "handlers 17/4096", "accepted 1234/s", "HANDLERS*", "service-39", "39/64"] {
        assert!(has(text), "{text}: {lines:#?}");
    }
    for text in ["BUSIEST SOURCES", "2001:db8:ffff:0", "REFUSALS BY REASON", "source_instances", "q quit"] {
        assert!(has(text), "{text}: {lines:#?}");
    }
}

#[test]
fn it_is_sorted_as_asked_and_scrolls() {
    let first = |change: &dyn Fn(&mut ScreenView<'_>)| {
        let lines = lines(80, 24, change);
        lines[4].split(' ').next().unwrap().to_owned()
    };
    assert_eq!(first(&|_| ()), "service-39");
    assert_eq!(first(&|view| view.sort = SortColumn::Service), "service-00");
    assert_eq!(first(&|view| view.sort = SortColumn::Accepted), "service-05");
    assert_eq!(first(&|view| view.skip = 2), "service-37");
    let last = lines(80, 24, |view| view.skip = 1000);
    assert!(last.iter().any(|line| line.starts_with("service-00")), "no further than to the end: {last:#?}");
}

#[test]
fn bars_show_little_things_and_never_too_much() {
    assert_eq!((draw_bar(0.0, 10.0, 8, false), draw_bar(0.01, 10.0, 8, false)), (String::new(), "#".to_owned()));
    assert_eq!(
        (draw_bar(5.0, 10.0, 8, false), draw_bar(99.0, 10.0, 8, false)),
        ("####".to_owned(), "########".to_owned())
    );
    assert_eq!((draw_bar(0.01, 10.0, 8, true), draw_bar(10.0, 10.0, 2, true)), ("▏".to_owned(), "██".to_owned()));
    assert_eq!((draw_bar(1.0, 0.0, 8, true), draw_bar(1.0, 1.0, 0, true)), (String::new(), String::new()));
}

#[test]
fn trouble_is_told() {
    let lines = lines(80, 24, |view| view.trouble = Some("the daemon does not answer\x1b[2J"));
    assert_eq!(lines[2], "the daemon does not answer?[2J");
}
