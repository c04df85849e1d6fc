#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rsttrace::fuzz::file(data));
