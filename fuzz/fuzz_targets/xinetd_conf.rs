#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxinetd::fuzzed::TARGETS[1].1(bytes));
