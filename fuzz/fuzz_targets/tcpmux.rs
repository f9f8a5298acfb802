#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxinetd::fuzzed::TARGETS[4].1(bytes));
