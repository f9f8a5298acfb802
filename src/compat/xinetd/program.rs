//! The program of a service with its arguments, its builtin, or its redirection. Steps of [`super::service`].

use std::time::Duration;

use super::access;
use super::draft::{Flag, Kind};
use super::maker::{Maker, Step};
use crate::compat::suspicious::is_interpreter;
use crate::config::location::Spanned;
use crate::config::program::base_name;

/// For ever: longer than any client will wait.
const ENDLESS_PENALTY: Duration = Duration::from_secs(3650 * 86_400);
/// Something, where it is never asked for.
const UNUSED_PENALTY: Duration = Duration::from_secs(1);
/// The debt that has no effect; as short as it may be.
const MIN_PENALTY: Duration = Duration::from_secs(1);

/// The services that xinetd serves itself, over streams and datagrams.
const INTERNAL: [&str; 5] = ["echo", "discard", "daytime", "time", "chargen"];

/// Reports attributes that a service must have and lacks.
pub(super) fn check_required(maker: &Maker<'_, '_>) -> Step {
    let draft = maker.draft;
    let internal = draft.has_kind(Kind::Internal) || draft.has_flag(Flag::Sensor);
    let external = !internal && draft.redirect.is_none();
    if external && draft.server.is_none() {
        return maker.end_broken("service", "server is missing, such as server = /bin/cat");
    }
    if !internal && draft.user.is_none() {
        return maker.end_broken("service", "user is missing, such as user = nobody");
    }
    if draft.wait.is_none() {
        return maker.end_broken("service", "wait is missing; expected wait = no or wait = yes");
    }
    if draft.has_flag(Flag::NameInArgs) {
        let message = match (internal, draft.redirect.is_some(), draft.server_args.is_some()) {
            (true, ..) => "an internal service has no arguments for NAMEINARGS",
            (_, true, _) => "a redirection has no arguments for NAMEINARGS",
            (_, _, false) => "NAMEINARGS needs server_args, which begin with the program's name",
            _ => return Ok(()),
        };
        return maker.end_broken("flags", message);
    }
    Ok(())
}

pub(super) fn put_program(maker: &mut Maker<'_, '_>) -> Step {
    let draft = maker.draft;
    for (attribute, belongs, to) in [
        ("deny_time", draft.has_flag(Flag::Sensor), "flags = SENSOR"),
        ("rpc_version", draft.has_kind(Kind::Rpc), "type = RPC"),
        ("rpc_number", draft.has_kind(Kind::Rpc), "type = RPC"),
    ] {
        if let Some(at) = draft.set.get(attribute).filter(|_| !belongs) {
            maker.add_note(at, format!("this has no effect without {to}"));
        }
    }
    if draft.has_flag(Flag::Sensor) {
        return put_sensor(maker);
    }
    if draft.has_kind(Kind::Internal) {
        return put_internal(maker);
    }
    if draft.redirect.is_some() {
        return put_redirect(maker);
    }
    put_external(maker)
}

fn put_internal(maker: &mut Maker<'_, '_>) -> Step {
    let name = maker.draft.name.to_ascii_lowercase();
    let stream = maker.draft.socket_type.as_deref() != Some("dgram");
    let known = INTERNAL.contains(&name.as_str()) || (stream && name == "tcpmux");
    if !known {
        return maker.end_broken("type", format!("xinetd has no internal service {:?}", maker.draft.name));
    }
    put_builtin(maker, "type", &name);
    Ok(())
}

fn put_builtin(maker: &mut Maker<'_, '_>, attribute: &str, name: &str) {
    maker.spec.builtin = maker.placed_at(attribute, name.to_owned());
}

/// A port without honest clients: for `deny_time`, all services refuse a client that has connected to it.
fn put_sensor(maker: &mut Maker<'_, '_>) -> Step {
    if maker.draft.socket_type.as_deref() == Some("dgram") {
        let message =
            "SENSOR is refused for datagrams: their sources can be forged, so anybody could have others shut out";
        return maker.end_refused("flags", message);
    }
    let minutes = maker.draft.deny_time.unwrap_or(Some(0));
    let place = if maker.draft.deny_time.is_some() { "deny_time" } else { "flags" };
    let cost = match minutes {
        Some(0) => UNUSED_PENALTY,
        Some(minutes) => Duration::from_secs(60 * u64::from(minutes)),
        None => ENDLESS_PENALTY,
    };
    if minutes == Some(0) {
        let at = maker.draft.place_of(place);
        maker.add_note(&at, "without deny_time nothing follows from a visit; it is only logged");
        access::admit_nobody(maker, at);
    }
    let set = |value| Some(Spanned { value, at: maker.draft.place_of(place) });
    let penalties = &mut maker.spec.penalties;
    (penalties.trap, penalties.min, penalties.max) = (set(cost), set(MIN_PENALTY), set(cost.max(2 * MIN_PENALTY)));
    Ok(())
}

fn put_redirect(maker: &mut Maker<'_, '_>) -> Step {
    let draft = maker.draft;
    if draft.socket_type.as_deref() == Some("dgram") || draft.protocol.as_deref() == Some("udp") {
        return maker.end_broken("redirect", "only streams can be redirected");
    }
    if draft.wait == Some(true) {
        return maker.end_broken("redirect", "a redirection cannot wait; write wait = no");
    }
    if draft.server.is_some() {
        let at = draft.place_of("server");
        maker.add_note(&at, "this has no effect beside redirect");
    }
    put_builtin(maker, "redirect", "redirect");
    maker.spec.to = draft.redirect.clone().map(|value| Spanned { value, at: draft.place_of("redirect") });
    Ok(())
}

fn put_external(maker: &mut Maker<'_, '_>) -> Step {
    let draft = maker.draft;
    let Some(server) = &draft.server else { return Ok(()) };
    let arguments = draft.server_args.clone().unwrap_or_default();
    let name = base_name(server).to_owned();
    let mut argv = if draft.has_flag(Flag::NameInArgs) { arguments } else { [vec![name], arguments].concat() };
    if let Some(Suspicion { message, meant }) = lint_arguments(server, &argv) {
        let at = draft.place_of("server_args");
        maker.add_note(&at, message);
        argv = meant.unwrap_or(argv);
    }
    if base_name(server) == "tcpd" && base_name(&argv[0]) == "tcpd" {
        return maker.end_broken(
            "server",
            "tcpd would run itself for ever: it runs the program that it is called by the name of",
        );
    }
    let argv0 = argv.remove(0);
    if argv0 != base_name(server) {
        maker.spec.argv0 = maker.placed_at("server_args", argv0);
    }
    let words = std::iter::once(server.clone()).chain(argv).collect();
    maker.spec.program = maker.placed_at("server", words);
    Ok(())
}

/// Arguments that are probably not meant as they stand.
struct Suspicion {
    message: String,
    /// The arguments that the program gets in place of dangerous ones.
    meant: Option<Vec<String>>,
}

fn lint_arguments(path: &str, argv: &[String]) -> Option<Suspicion> {
    let base = base_name(path);
    let [name, rest @ ..] = argv else { return None };
    if let ("tcpd", "tcpd", [program, ..]) = (base, base_name(name), rest) {
        let message = format!(
            "xinetd calls tcpd by its own name, so that it runs itself for ever; here it runs {program}; did \
             you mean flags = NAMEINARGS?"
        );
        return Some(Suspicion { message, meant: Some(rest.to_vec()) });
    }
    if is_interpreter(path) && name.starts_with('/') && base_name(name) != base {
        let message = format!(
            "with NAMEINARGS the first of server_args is the program's own name, so {base} gets no script and runs whatever the \
             client sends; here it runs {name}; did you mean {base} {name}?"
        );
        return Some(Suspicion { message, meant: Some([&[base.to_owned()], argv].concat()) });
    }
    if name.starts_with('-') && name.trim_start_matches('-') != base {
        let message = format!(
            "with NAMEINARGS the first of server_args is the program's own name: it is called {name:?} and gets {} \
             argument(s), as it does here; did you mean {base} {name}?",
            rest.len()
        );
        return Some(Suspicion { message, meant: None });
    }
    None
}

/// Turns a service away of which the TCP wrappers have a rule: xinetd asks them, this daemon does not.
pub(super) fn check_wrappers(maker: &mut Maker<'_, '_>) -> Step {
    let draft = maker.draft;
    let server = draft.server.as_deref().filter(|_| draft.redirect.is_none());
    if draft.has_flag(Flag::NoLibwrap) || server.is_some_and(|server| base_name(server) == "tcpd") {
        return Ok(());
    }
    let argv0 = maker.spec.argv0.as_ref().map(|set| base_name(&set.value).to_owned());
    let name = draft.libwrap.clone().or(argv0).or_else(|| server.map(|server| base_name(server).to_owned()));
    let name = name.unwrap_or_else(|| draft.name.clone());
    match maker.world.find_wrapper_rule(&name) {
        None => Ok(()),
        Some(rule) => maker.end_refused(
            if draft.libwrap.is_some() { "libwrap" } else { "service" },
            format!(
                "xinetd asks the TCP wrappers about {name}, which have a rule at {rule}, and nobody asks them here: write the \
                 rule as only_from or no_access and add flags = NOLIBWRAP, or run the program through tcpd(8)"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lint(path: &str, argv: &str) -> Option<(String, Option<String>)> {
        let argv: Vec<String> = argv.split(' ').map(str::to_owned).collect();
        lint_arguments(path, &argv).map(|doubt| (doubt.message, doubt.meant.map(|argv| argv.join(" "))))
    }

    #[test]
    fn names_that_are_no_names_are_doubted() {
        let (message, meant) = lint("/usr/bin/python3", "/home/x.py -v").unwrap();
        assert!(message.ends_with("did you mean python3 /home/x.py?"), "{message}");
        assert_eq!(meant.as_deref(), Some("python3 /home/x.py -v"));
        let (message, meant) = lint("/usr/sbin/nullidentd", "-u ident").unwrap();
        assert!(message.ends_with("did you mean nullidentd -u?") && meant.is_none(), "{message}");
        let (message, meant) = lint("/usr/sbin/tcpd", "tcpd /usr/sbin/in.ftpd -l").unwrap();
        assert!(message.contains("it runs /usr/sbin/in.ftpd; did you mean flags = NAMEINARGS?"), "{message}");
        assert_eq!(meant.as_deref(), Some("/usr/sbin/in.ftpd -l"));
    }

    #[test]
    fn other_names_are_the_administrators_business() {
        for (path, argv) in [
            ("/usr/sbin/tcpd", "/usr/sbin/in.ftpd"),
            ("/bin/sh", "-sh"),
            ("/usr/bin/python3", "python3 /home/x.py"),
            ("/usr/sbin/in.ftpd", "in.ftpd -l"),
            ("/usr/sbin/in.ftpd", "ftpd"),
        ] {
            assert!(lint(path, argv).is_none(), "{argv}");
        }
    }
}
