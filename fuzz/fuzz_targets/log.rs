#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oxinetd::fuzzed::TARGETS[6].1(bytes));
