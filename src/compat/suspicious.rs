//! Programs whose arguments are dangerous where they are not what they seem. The readers of both old formats ask.

use crate::config::program::base_name;

/// Programs that read another program: from a file that they are given, or else from their standard input.
const INTERPRETERS: [&str; 16] = [
    "ash", "bash", "csh", "dash", "expect", "guile", "ksh", "lua", "mksh", "node", "perl", "php", "python", "ruby",
    "sh", "tclsh",
];

/// Does this program run scripts? Versions may follow its name, as in python3.11.
pub(super) fn is_interpreter(path: &str) -> bool {
    let name = base_name(path).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_interpreters_are_known() {
        for path in
            ["/usr/bin/python3", "/usr/local/bin/python3.11", "/bin/sh", "/usr/bin/perl5.36.0", "/usr/bin/lua5.4"]
        {
            assert!(is_interpreter(path), "{path}");
        }
        for path in ["/usr/sbin/sshd", "/usr/bin/git", "/usr/bin/perldoc", "/home/sh/run"] {
            assert!(!is_interpreter(path), "{path}");
        }
    }
}
