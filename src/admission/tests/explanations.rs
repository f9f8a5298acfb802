//! The texts of explanations.

use super::*;

impl World {
    fn explain(&mut self, peer: Peer) -> Vec<Question> {
        self.admission.explain(&self.ledger, self.id, &self.table.services[0], peer, NOW)
    }
}

fn answer(all: &[Question], question: Reason) -> (bool, String) {
    let found = all.iter().find(|one| one.question == question.word());
    found.map(|one| (one.yes, one.rule.clone())).unwrap()
}

#[test]
fn an_explanation_names_rules_numbers_and_places() {
    let keys = "deny: [192.0.2.0/25,\n  192.0.2.128/25], times: 00:00-24:00, per_source: { instances: 2, rate: 30/min, burst: 10,
        exempt: [198.51.100.0/24] }, max_load: 1000, penalties: { crash: 90s, exempt: [203.0.113.1] }";
    let mut world = World::new(keys);
    let denied = world.explain(peer("192.0.2.200"));
    let asked: Vec<_> = denied.iter().map(|one| one.question.as_str()).collect();
    assert_eq!(asked, CHECKS.iter().map(|check| check.reason.word()).collect::<Vec<_>>());
    let (yes, text) = answer(&denied, Reason::Access);
    assert!(!yes && text.starts_with("deny 192.0.2.128/25 (/") && text.ends_with("t.yaml:3:3)"), "{text}");
    world.admission.charge(world.id, &peer("203.0.113.7"), Cause::Crash, NOW);
    world.admission.ban(network("203.0.113.0/24"), Some(NOW.monotonic + MINUTE), NOW).unwrap();
    assert_eq!(world.decide("203.0.113.7", NOW), no(Reason::Ban, Some(MINUTE)));
    let all = world.explain(peer("203.0.113.7"));
    let expected = [
        (Reason::Drained, true, "not drained"),
        (Reason::Access, true, "in no network of deny, and there is no allow"),
        (Reason::Ban, false, "ban of 203.0.113.0/24, for another 1m"),
        (Reason::Penalty, false, "203.0.113.7 is penalised for another 1m15s; time number 1"),
        (Reason::Trap, true, "not a trap"),
        (Reason::NetworkRate, true, "no limit"),
        (Reason::ServiceInstances, true, "0 of 64 handlers (default)"),
        (Reason::DaemonInstances, true, "0 of 1000 handlers (daemon.instances)"),
    ];
    for (question, yes, text) in expected {
        assert_eq!(answer(&all, question), (yes, text.to_owned()));
    }
    let (_, text) = answer(&all, Reason::SourceInstances);
    assert!(text.starts_with("203.0.113.7: 0 of 2 handlers (/") && text.contains("t.yaml:3:"), "{text}");
    assert!(answer(&all, Reason::SourceRate).1.starts_with("203.0.113.7: 30/min, burst 10 (/"));
    assert!(answer(&all, Reason::Times).1.starts_with("Sun,Mon,Tue,Wed,Thu,Fri,Sat 00:00-24:00 (/"));
    assert!(answer(&all, Reason::Load).1.starts_with("load average up to 1000, now "));
    let exempt = world.explain(peer("198.51.100.1"));
    assert!(answer(&exempt, Reason::SourceRate).1.starts_with("exempt 198.51.100.0/24 (/"));
    assert!(answer(&world.explain(peer("203.0.113.1")), Reason::Penalty).1.starts_with("exempt from penalties (/"));
}

#[test]
fn explanations_of_unusual_states() {
    let mut world = World::new("allow: 192.0.2.0/24, penalties: { trap: 1h }, instances: 3");
    let rule = |world: &mut World, peer, question| answer(&world.explain(peer), question).1;
    assert!(rule(&mut world, peer("198.51.100.1"), Reason::Access).starts_with("in no network of allow (/"));
    assert!(rule(&mut world, peer("192.0.2.1"), Reason::Access).starts_with("allow 192.0.2.0/24 (/"));
    world.reload("", 1000, NOW);
    assert_eq!(rule(&mut world, peer("192.0.2.1"), Reason::Access), "neither allow nor deny");
    let user = Peer::Unix { uid: 7, gid: 7 };
    assert_eq!(rule(&mut world, user, Reason::Access), "does not apply to Unix sockets");
    assert_eq!(rule(&mut world, user, Reason::Drained), "not drained");
    world.admission.drain(world.id);
    assert_eq!(rule(&mut world, user, Reason::Drained), "drained by the administrator");
    assert!(rule(&mut world, user, Reason::Trap).starts_with("not a trap"));
    let trap = table(&format!("{FEW}services: {{ s: {{ listen: 80, penalties: {{ trap: 1h }} }} }}"));
    let prepared = world.admission.prepare(trap.daemon.sources, &trap.services).unwrap();
    world.admission.serve([(world.id, &trap.services[0])], 1000, prepared, NOW);
    world.table = trap;
    assert!(rule(&mut world, user, Reason::Trap).starts_with("a trap, which serves nobody (/"));
    world.reload("per_source: { instances: 5 }, per_network: { instances: 9 }", 1000, NOW);
    world.admission.resume(world.id);
    (0..2).for_each(|_| world.arrive("192.0.2.1", NOW).unwrap());
    world.arrive("192.0.2.2", NOW).unwrap();
    assert!(rule(&mut world, peer("192.0.2.1"), Reason::SourceInstances).contains("2 of 5 handlers"));
    assert!(rule(&mut world, peer("192.0.2.1"), Reason::NetworkInstances).contains("3 of 9 handlers"));
}
