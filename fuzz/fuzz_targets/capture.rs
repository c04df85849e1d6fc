#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsttrace::fuzz::capture(data));
