//! Looks up accounts, ports, hosts and the rules of the TCP wrappers; each list is read once, when needed.

use std::collections::HashMap;
use std::net::IpAddr;

use super::wrappers::Rules;
use crate::config::accounts::Accounts;
use crate::config::endpoint::Ports;
use crate::config::machine::{Machine, parse_hosts, read_list};

/// The machine with what it has said so far.
pub(super) struct World<'a> {
    pub machine: &'a dyn Machine,
    pub accounts: Accounts<'a>,
    pub ports: Ports<'a>,
    hosts: Option<HashMap<String, Vec<IpAddr>>>,
    protocols: Option<String>,
    wrappers: Option<Rules>,
}

impl<'a> World<'a> {
    pub(super) fn new(machine: &'a dyn Machine) -> Self {
        let (accounts, ports) = (Accounts::new(machine), Ports::new(machine));
        Self { machine, accounts, ports, hosts: None, protocols: None, wrappers: None }
    }

    /// The addresses of a host in /etc/hosts, if it is there.
    pub(super) fn find_host(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        let machine = self.machine;
        let hosts =
            self.hosts.get_or_insert_with(|| parse_hosts(&read_list(machine, "/etc/hosts"), |text| text.parse().ok()));
        hosts.get(&name.to_ascii_lowercase()).cloned()
    }

    /// Is there a protocol of this name in /etc/protocols?
    pub(super) fn has_protocol(&mut self, name: &str) -> bool {
        if matches!(name, "tcp" | "udp") {
            return true;
        }
        let machine = self.machine;
        let text = self.protocols.get_or_insert_with(|| read_list(machine, "/etc/protocols"));
        let words =
            |line: &str| line.split('#').next().unwrap_or_default().split_ascii_whitespace().any(|word| word == name);
        text.lines().any(words)
    }

    /// The rule of hosts_access(5) that speaks of a program, if there is one.
    pub(super) fn find_wrapper_rule(&mut self, program: &str) -> Option<String> {
        let machine = self.machine;
        let rules = self.wrappers.get_or_insert_with(|| {
            Rules::read(["/etc/hosts.allow", "/etc/hosts.deny"].map(|path| (path, read_list(machine, path))))
        });
        rules.rule_about(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_all_its_addresses() {
        let hosts =
            parse_hosts("127.0.0.1 localhost # me\n::1 LocalHost ip6-localhost\nbad line\n10.0.0.1\n", |text| {
                text.parse::<IpAddr>().ok()
            });
        assert_eq!(hosts["localhost"], ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(hosts["ip6-localhost"].len(), 1);
        assert_eq!(hosts.len(), 2);
    }
}
