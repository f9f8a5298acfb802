//! The dialects of inetd.conf: the same bytes mean different things to different daemons.
//!
//! The answers here are all that the rest of this folder needs to know of one. They are facts of the sources of
//! openbsd-inetd 0.20221205 (with Debian's patches, and without), GNU inetutils 2.4 (as Debian ships it), FreeBSD
//! and NetBSD (2026) and BusyBox 1.36.

use crate::config::dialect::Dialect;

/// Which quotation marks hold words together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// None; they are letters like others.
    None,
    /// Those that begin a word; the word ends at the next.
    Around,
    /// Those anywhere in a word, as in a shell, but nothing escapes them.
    Inside,
}

/// The ways in which a line is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continuation {
    /// Not at all.
    None,
    /// A line that begins with a blank belongs to the one before.
    Blank,
    /// After a backslash at the end.
    Backslash,
}

/// Which addresses a protocol takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Families {
    pub v4: bool,
    pub v6: bool,
    /// Both on one socket, so that no other entry can have one of them.
    pub one_socket: bool,
}

impl Families {
    const V4: Self = Self { v4: true, v6: false, one_socket: false };
    const V6: Self = Self { v4: false, v6: true, one_socket: false };
    const EACH: Self = Self { v4: true, v6: true, one_socket: false };
    const DUAL: Self = Self { v4: true, v6: true, one_socket: true };
}

/// How the user's field is taken apart.
pub(super) struct UserField<'a> {
    pub user: &'a str,
    pub group: Option<&'a str>,
    /// A login class of the BSDs.
    pub class: Option<&'a str>,
}

impl Dialect {
    pub(super) fn quote_style(self) -> Quotes {
        match self {
            Self::Debian | Self::Openbsd | Self::Busybox => Quotes::None,
            Self::Gnu | Self::Freebsd => Quotes::Around,
            Self::Netbsd => Quotes::Inside,
        }
    }

    pub(super) fn continuation_style(self) -> Continuation {
        match self {
            Self::Gnu => Continuation::None,
            Self::Busybox => Continuation::Backslash,
            Self::Debian | Self::Openbsd | Self::Freebsd | Self::Netbsd => Continuation::Blank,
        }
    }

    /// Does `#` begin a comment anywhere in a line, and not only at its beginning?
    pub(super) fn comments_anywhere(self) -> bool {
        self == Self::Busybox
    }

    /// Do lines that begin with `#@` hold an IPsec policy?
    pub(super) fn has_policies(self) -> bool {
        matches!(self, Self::Freebsd | Self::Netbsd)
    }

    /// The most words of one entry, the rest of the line being the last one.
    pub(super) fn max_words(self) -> Option<usize> {
        (self == Self::Busybox).then_some(6 + 20)
    }

    /// The most arguments that reach a program, its name included; the others are dropped.
    pub(super) fn max_arguments(self) -> Option<usize> {
        match self {
            Self::Debian | Self::Openbsd | Self::Freebsd => Some(20),
            Self::Netbsd => Some(64),
            Self::Gnu | Self::Busybox => None,
        }
    }

    /// Can an address stand before the service, and alone on a line for those that follow?
    pub(super) fn takes_addresses(self) -> bool {
        self != Self::Freebsd
    }

    /// The addresses of `tcp`, `udp4` …, by the suffix behind the name of the protocol. `None` is no protocol.
    pub(super) fn find_families(self, suffix: &str) -> Option<Families> {
        match (self, suffix) {
            (Self::Debian, "") => Some(Families::EACH),
            (Self::Debian | Self::Freebsd, "46") | (Self::Gnu | Self::Busybox, "6") => Some(Families::DUAL),
            (_, "") => Some(Families::V4),
            (Self::Busybox, _) => None,
            // OpenBSD and NetBSD look at the last letter, GNU at the first behind the name.
            (_, "4") | (Self::Gnu, "46") => Some(Families::V4),
            (_, "6") | (Self::Gnu, "6only") | (Self::Openbsd | Self::Netbsd, "46") => Some(Families::V6),
            _ => None,
        }
    }

    /// Are buffer sizes, as in `tcp,sndbuf=64k`, known?
    pub(super) fn takes_buffers(self) -> bool {
        matches!(self, Self::Debian | Self::Openbsd | Self::Netbsd)
    }

    pub(super) fn user_field(self, text: &str) -> UserField<'_> {
        let (text, class) = match (self, text.rsplit_once('/')) {
            (Self::Freebsd, Some((user, class))) => (user, Some(class)),
            _ => (text, None),
        };
        let split = match self {
            Self::Debian | Self::Openbsd | Self::Busybox => text.split_once('.').or_else(|| text.split_once(':')),
            Self::Gnu | Self::Netbsd => text.split_once(':').or_else(|| text.split_once('.')),
            Self::Freebsd => text.rsplit_once(':'),
        };
        let (user, group) = split.map_or((text, None), |(user, group)| (user, Some(group)));
        UserField { user, group: group.filter(|group| !group.is_empty()), class }
    }

    /// How often a service may be started in a minute where its entry does not say; the daemon then takes it for
    /// failing, and closes it.
    pub(super) fn starts_per_minute(self) -> Option<u32> {
        match self {
            Self::Debian | Self::Openbsd | Self::Freebsd => Some(256),
            // The manual says 40.
            Self::Gnu => Some(1000),
            Self::Netbsd => Some(40),
            Self::Busybox => None,
        }
    }

    /// Does it have an internal service of this name for streams, or for datagrams?
    pub(super) fn has_internal(self, name: &str, datagram: bool) -> bool {
        match name {
            "echo" | "discard" | "chargen" | "daytime" | "time" => true,
            "tcpmux" => !datagram && matches!(self, Self::Gnu | Self::Freebsd | Self::Netbsd),
            "auth" => !datagram && self == Self::Freebsd,
            _ => false,
        }
    }

    /// Does it know services behind tcpmux, `tcpmux/NAME`?
    pub(super) fn knows_tcpmux(self) -> bool {
        matches!(self, Self::Gnu | Self::Freebsd | Self::Netbsd)
    }

    /// The name that a program gets where the entry has none: its whole path, or the last component.
    pub(super) fn name_is_path(self) -> bool {
        self == Self::Busybox
    }
}
