//! Access lists, banners and logs of a service. Steps of [`super::service`].

use ipnet::IpNet;

use super::draft::{Draft, Fault, Flag, LogItem, Member};
use super::edits::Edits;
use super::logs::log_place;
use super::maker::{Maker, Step};
use crate::config::Refuse;
use crate::config::location::{Location, Spanned, SpannedList};

/// The address that no client has (RFC 919): a list of it alone admits none.
const NOBODY: &str = "255.255.255.255/32";
/// The most bytes that are sent to a client that is refused.
const MAX_REFUSE_BYTES: usize = 512;
/// The most bytes of a banner, which has to fit into a fresh connection's buffer.
const MAX_BANNER_BYTES: usize = 16 << 10;

/// `only_from` and `no_access`, and limits of 0.
pub(super) fn put_access(maker: &mut Maker<'_, '_>) -> Step {
    let allow = address_list(maker, "only_from", |draft| &draft.only_from);
    let deny = address_list(maker, "no_access", |draft| &draft.no_access).filter(|list| !list.value.is_empty());
    let allow = allow.filter(|list| !holds_everybody(maker, &list.value));
    refuse_unseen(maker, &allow)?;
    refuse_unseen(maker, &deny)?;
    maker.spec.deny.clone_from(&deny);
    if maker.spec.allow.is_some() {
        return Ok(());
    }
    if let Some(Spanned { value: mut allow, at }) = allow {
        let before = allow.len();
        let denied = deny.map(|list| list.value).unwrap_or_default();
        // Here the longer prefix decides, there the denial does.
        allow.retain(|network| !denied.iter().any(|denied| denied.value.contains(&network.value)));
        if allow.len() < before {
            maker.add_note(&at, "some of these are in no_access too, and xinetd turns them away, as is done here");
        }
        if allow.is_empty() {
            maker.add_note(&at, "nobody is left in this list, so nobody may come");
            admit_nobody(maker, at);
        } else {
            maker.spec.allow = Some(Spanned { value: allow, at });
        }
    }
    put_zero_limits(maker);
    Ok(())
}

/// Does a list hold every address that the service can see?
fn holds_everybody(maker: &Maker<'_, '_>, list: &[Spanned<IpNet>]) -> bool {
    let all = |v4: bool| list.iter().any(|set| set.value.prefix_len() == 0 && set.value.addr().is_ipv4() == v4);
    let only_v4 = maker.draft.has_flag(Flag::Ipv4) && !maker.draft.has_flag(Flag::Ipv6);
    all(true) && (only_v4 || all(false))
}

/// A service that waits for connections is lent the socket, and the daemon does not see its clients. Of datagrams
/// the sender of the first is looked at, as xinetd does.
fn refuse_unseen(maker: &Maker<'_, '_>, list: &SpannedList<IpNet>) -> Step {
    let datagrams = maker.spec.listen.iter().flat_map(|list| &list.value).all(|set| set.value.starts_with("udp"));
    let blind = maker.draft.wait == Some(true) && !datagrams;
    let Some(Spanned { at, .. }) = list.as_ref().filter(|_| blind) else { return Ok(()) };
    let own = at.is_below(&maker.draft.at);
    let (place, whose) = if own { (at, String::new()) } else { (&maker.draft.at, format!(" of {}", at)) };
    let message = format!(
        "the list{whose} cannot be kept: a service that waits sees its clients itself, and the daemon does not; with \
         only_from = 0.0.0.0 :: and no_access = it says that everybody may come"
    );
    Err((place.clone(), Fault::Refused(message)))
}

fn put_zero_limits(maker: &mut Maker<'_, '_>) {
    for limit in 0..2 {
        let spec = &mut maker.spec;
        let key = if limit == 0 { &mut spec.instances } else { &mut spec.per_source.instances };
        if let Some(Spanned { value: Some(0), at }) = key.clone() {
            *key = None;
            maker.add_note(&at, "0 admits nobody");
            admit_nobody(maker, at);
        }
    }
}

pub(super) fn admit_nobody(maker: &mut Maker<'_, '_>, at: Location) {
    let network = NOBODY.parse::<IpNet>().ok();
    let value = network.map(|value| at.spanned(value)).into_iter().collect();
    maker.spec.allow = Some(Spanned { value, at });
}

fn address_list(maker: &Maker<'_, '_>, attribute: &str, of: fn(&Draft) -> &Edits<Member>) -> SpannedList<IpNet> {
    let members = of(maker.draft).apply_to(of(maker.defaults))?;
    let value = members
        .into_iter()
        .flat_map(|Spanned { value, at }| value.networks.into_iter().map(move |value| at.spanned(value)))
        .collect();
    Some(Spanned { value, at: maker.place_of(attribute) })
}

/// `log_on_success` and `log_on_failure`.
pub(super) fn put_logs(maker: &mut Maker<'_, '_>) -> Step {
    let success = maker.draft.log_on_success.apply_to(&maker.defaults.log_on_success);
    let failure = maker.draft.log_on_failure.apply_to(&maker.defaults.log_on_failure);
    let has = |item| success.iter().flatten().any(|set: &Spanned<LogItem>| set.value == item);
    if has(LogItem::Traffic) && maker.draft.redirect.is_none() {
        return maker.end_broken("log_on_success", "TRAFFIC can be logged of a redirection only");
    }
    if maker.draft.has_flag(Flag::IdOnly) {
        if has(LogItem::UserId) {
            let message =
                "IDONLY is not supported: clients are not asked who they are, so none could be turned away for it";
            return maker.end_refused("flags", message);
        }
        let at = maker.draft.place_of("flags");
        maker.add_note(&at, "IDONLY has no effect without USERID in log_on_success");
    }
    if let Some(items) = &success {
        let at = maker.place_of("log_on_success");
        let exit = has(LogItem::Exit) || has(LogItem::Duration);
        maker.spec.log.accept = Some(at.spanned(!items.is_empty()));
        maker.spec.log.exit = Some(Spanned { value: exit, at });
    }
    if let Some(items) = failure {
        maker.spec.log.refuse = Some(Spanned { value: !items.is_empty(), at: maker.place_of("log_on_failure") });
    }
    put_log_type(maker);
    Ok(())
}

/// A log of its own, in place of that of `defaults`.
fn put_log_type(maker: &mut Maker<'_, '_>) {
    let Some(own) = &maker.draft.log_type else { return };
    let at = maker.draft.place_of("log_type");
    match log_place(own, &at) {
        Ok(place) => maker.spec.log.place = place,
        Err(fault) => maker.add_note(&at, format!("{fault}; the service logs to the daemon's log")),
    }
}

/// Reads the banners: for all clients, for admitted ones, for refused ones.
pub(super) fn put_banners(maker: &mut Maker<'_, '_>) {
    let always = read_banner(maker, "banner", |draft| &draft.banner);
    let success = read_banner(maker, "banner_success", |draft| &draft.banner_success);
    let fail = read_banner(maker, "banner_fail", |draft| &draft.banner_fail);
    if maker.lends {
        return;
    }
    let joined = |second: Option<(Location, String)>| match (always.clone(), second) {
        (Some((at, first)), Some((_, second))) => Some((at, first + &second)),
        (first, second) => first.or(second),
    };
    maker.spec.banner = joined(success).map(|(at, text)| Spanned { value: text, at });
    if let Some((at, mut text)) = joined(fail) {
        if text.len() > MAX_REFUSE_BYTES {
            maker.add_note(
                &at,
                format!("a client that is refused gets the first {MAX_REFUSE_BYTES} of {} bytes", text.len()),
            );
            let end = (0..=MAX_REFUSE_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
        }
        maker.spec.refuse = Some(Spanned { value: Refuse::Text(text.into_bytes()), at });
    }
}

fn read_banner(
    maker: &mut Maker<'_, '_>,
    attribute: &str,
    of: fn(&Draft) -> &Option<String>,
) -> Option<(Location, String)> {
    let Spanned { value: path, at } = maker.inherited_value(attribute, of)?;
    if maker.lends {
        if of(maker.draft).is_some() {
            maker.add_note(&at, "a service that waits has no connection to send a banner on");
        }
        return None;
    }
    let bytes = match maker.world.machine.content(&path) {
        Ok(bytes) => bytes,
        Err(message) => {
            maker.add_note(&at, format!("{message}; there is no banner"));
            return None;
        }
    };
    if bytes.len() > MAX_BANNER_BYTES {
        maker
            .add_note(&at, format!("{path} has {} bytes, and only the first {MAX_BANNER_BYTES} are sent", bytes.len()));
    }
    let bytes = &bytes[..bytes.len().min(MAX_BANNER_BYTES)];
    if std::str::from_utf8(bytes).is_err() {
        maker.add_note(&at, format!("{path} is not UTF-8; what is not is sent as U+FFFD"));
    }
    Some((at, String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")))
}
