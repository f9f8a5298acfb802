//! The TCP wrappers: does a rule of hosts_access(5) speak of a program?
//!
//! xinetd asks /etc/hosts.allow and /etc/hosts.deny for each connection of each service. This daemon does not, so a
//! rule that would apply cannot be kept. Of each rule only the list of programs is read; in doubt it names every
//! program.

/// The lists of programs of all rules.
pub(super) struct Rules {
    /// Where, and the words before the first colon.
    rules: Vec<(String, Vec<String>)>,
}

impl Rules {
    /// Reads files, each with its path and its text.
    pub(super) fn read<'a>(files: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut rules = Vec::new();
        for (path, text) in files {
            let mut lines = text.lines().enumerate();
            while let Some((number, line)) = lines.next() {
                let mut rule = line.to_owned();
                // A backslash at the end goes on in the next line.
                while let Some(start) = rule.strip_suffix('\\') {
                    rule = start.to_owned() + lines.next().map_or("", |(_, line)| line);
                }
                let programs = rule.split(':').next().unwrap_or_default();
                if rule.starts_with('#') || programs.trim().is_empty() {
                    continue;
                }
                let words =
                    programs.split([',', ' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
                rules.push((format!("{path}:{}", number + 1), words));
            }
        }
        Self { rules }
    }

    /// Where the first rule stands that speaks of `program`.
    pub(super) fn rule_about(&self, program: &str) -> Option<String> {
        let names = |word: &String| {
            let special = word.contains(['*', '?', '/', '@', '[']) || word.starts_with('.') || word.ends_with('.');
            special || word.eq_ignore_ascii_case("ALL") || word.eq_ignore_ascii_case(program)
        };
        self.rules.iter().find(|(_, words)| words.iter().any(names)).map(|(place, _)| place.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(text: &str, program: &str) -> Option<String> {
        Rules::read([("/h", text.to_owned())]).rule_about(program)
    }

    #[test]
    fn a_rule_speaks_of_the_programs_before_its_colon() {
        let text = "# sshd: ALL\n\nin.tftpd, in.fingerd : 10.0.0.0/8\nsshd \\\n  vsftpd: ALL\n";
        assert_eq!(about(text, "in.fingerd"), Some("/h:3".to_owned()));
        assert_eq!(about(text, "VSFTPD"), Some("/h:4".to_owned()));
        assert_eq!(about(text, "in.rshd"), None);
        assert_eq!(about(text, "ALL"), None);
    }

    #[test]
    fn some_rules_speak_of_everybody() {
        for text in ["ALL: ALL", "all except sshd: x", "in.*: x", "sshd@10.0.0.1: x", "/etc/daemons: x"] {
            assert!(about(text, "in.rshd").is_some(), "{text}");
        }
    }
}
