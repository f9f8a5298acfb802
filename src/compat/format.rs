//! Which format a file has, told by what is in it.
//!
//! The readers of a table ask for each file that the command line or an `include` names.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Xinetd,
    Inetd,
}

/// The format of a file. The first line that tells it decides; a file that says nothing is YAML, and what is wrong
/// with it is said there.
pub(crate) fn recognise_format(bytes: &[u8]) -> Format {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line_format(&String::from_utf8_lossy(line))).next().unwrap_or(Format::Yaml)
}

/// Are there only blank lines and comments?
pub(crate) fn says_nothing(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').all(|line| matches!(line.trim_ascii(), [] | [b'#', ..]))
}

fn line_format(line: &str) -> Option<Format> {
    let mut words = line.split_ascii_whitespace();
    if line.starts_with("#<off>#") || line.starts_with("#:") {
        return Some(Format::Inetd);
    }
    let first = words.next().filter(|word| !word.starts_with('#'))?;
    let key = first.trim_start_matches('\u{feff}').trim_end_matches(':').trim_matches(['"', '\'']);
    let yaml = ["include", "daemon", "defaults", "services"].contains(&key) && first.contains(':');
    if yaml || first == "---" || first.starts_with(['%', '{']) && !line.starts_with(' ') && first != "{" {
        return Some(Format::Yaml);
    }
    let directive = ["service", "defaults", "include", "includedir"];
    if directive.iter().any(|word| first.eq_ignore_ascii_case(word)) {
        return Some(Format::Xinetd);
    }
    let second = words.next().unwrap_or_default();
    (!first.ends_with(':') && is_inetd(second) || first == ".include").then_some(Format::Inetd)
}

/// Is this the second field of an entry in inetd.conf? A service of xinetd can't have one, nor can a key of YAML.
fn is_inetd(word: &str) -> bool {
    let kind = word.split([',', ':']).next().unwrap_or_default();
    let switch = word.split('#').next().unwrap_or_default();
    ["stream", "dgram", "rdm", "seqpacket", "raw"].contains(&kind) || ["on", "off"].contains(&switch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_tells_the_format_decides() {
        for text in
            ["", "\n# x\n", "services:\n  service a\n", "---\nservice x", "\u{feff}include: x", "{services: {}}", "x"]
        {
            assert_eq!(recognise_format(text.as_bytes()), Format::Yaml, "{text:?}");
        }
        for text in
            ["service ssh\n{\n}\n", "# x\n\n\tDefaults\n{", "includedir /etc/xinetd.d", "junk\n}\nservice a\r\n{"]
        {
            assert_eq!(recognise_format(text.as_bytes()), Format::Xinetd, "{text:?}");
        }
        assert_eq!(recognise_format(b"# \xa4\xff\nservice a"), Format::Xinetd);
        for text in [
            "ftp stream tcp",
            "127.0.0.1:\n echo\tdgram",
            "# x\n#<off># a b",
            "#:MAIL: x",
            "a on\nprotocol = tcp;",
            ".include x",
        ] {
            assert_eq!(recognise_format(text.as_bytes()), Format::Inetd, "{text:?}");
        }
    }
}
