//! The servers that can be measured, and where their programs are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The program of this package.
    Oxinetd,
    /// [`super::minimal::plain`].
    Minimal,
    /// [`super::minimal::session`].
    Session,
    /// [`super::minimal::design`].
    Design,
    /// [`super::closing`].
    Closing,
    Xinetd,
    /// Debian's inetd.
    OpenbsdInetd,
    /// GNU's.
    InetutilsInetd,
    BusyboxInetd,
    /// Of ucspi-tcp.
    Tcpserver,
    /// Of ipsvd.
    Tcpsvd,
}

impl Kind {
    /// The programs of others.
    pub(crate) const PEERS: [Self; 6] =
        [Self::Xinetd, Self::OpenbsdInetd, Self::InetutilsInetd, Self::BusyboxInetd, Self::Tcpserver, Self::Tcpsvd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oxinetd => "oxinetd",
            Self::Minimal => "minimal",
            Self::Session => "session",
            Self::Design => "design",
            Self::Closing => "closing",
            Self::Xinetd => "xinetd",
            Self::OpenbsdInetd => "openbsd-inetd",
            Self::InetutilsInetd => "inetutils",
            Self::BusyboxInetd => "busybox",
            Self::Tcpserver => "tcpserver",
            Self::Tcpsvd => "tcpsvd",
        }
    }

    /// The program and its first words, if it is on this machine.
    pub(crate) fn program(self) -> Option<Vec<OsString>> {
        match self {
            Self::Oxinetd => Some(vec![env!("CARGO_BIN_EXE_oxinetd").into()]),
            Self::Minimal | Self::Session | Self::Design | Self::Closing => {
                Some(vec![std::env::current_exe().ok()?.into(), super::SERVE.into(), self.name().into()])
            }
            Self::Xinetd => find("xinetd"),
            Self::OpenbsdInetd => find("inetd"),
            Self::InetutilsInetd => find("inetutils-inetd"),
            Self::BusyboxInetd => {
                let busybox = all("busybox").find(|path| has_applet(path, "inetd"))?;
                Some(vec![busybox.into(), "inetd".into()])
            }
            Self::Tcpserver => find("tcpserver"),
            Self::Tcpsvd => find("tcpsvd"),
        }
    }

    /// Whether it serves more than one port.
    pub(crate) fn serves_many(self) -> bool {
        matches!(self, Self::Oxinetd | Self::Xinetd | Self::OpenbsdInetd | Self::InetutilsInetd | Self::BusyboxInetd)
    }

    pub(crate) fn is_here(self) -> bool {
        self.program().is_some()
    }
}

/// The tool of this name that belongs to a peer.
pub(crate) fn find(name: &str) -> Option<Vec<OsString>> {
    all(name).next().map(|path| vec![path.into()])
}

/// Programs of this name: where `benches/peers/install` or the user has unpacked some, in PATH, and where servers live.
fn all(name: &str) -> impl Iterator<Item = PathBuf> {
    let unpacked = std::env::var_os("OXINETD_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = ["usr/sbin", "usr/bin", "bin"].map(|place| unpacked.join(place)).into();
    places.extend(std::env::split_paths(&path));
    places.push("/usr/sbin".into());
    let name = name.to_owned();
    places.into_iter().map(move |place| place.join(&name)).filter(|file| file.is_file())
}

fn has_applet(busybox: &Path, applet: &str) -> bool {
    let listed = Command::new(busybox).arg("--list").output().map(|output| output.stdout).unwrap_or_default();
    listed.split(|&byte| byte == b'\n').any(|line| line == applet.as_bytes())
}
