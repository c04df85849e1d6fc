//! Time to follow the connections of a packet capture: `cargo bench -p rsttrace --bench captures`.
//!
//! The capture is in memory, so reading a file is left out; the throughput is in packets per second.

#![expect(clippy::expect_used, reason = "what fails here fails the measurement")]

use std::{hint::black_box, io::Cursor};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use rsttrace::capture::Capture;

/// Connections that are open at once.
const AT_ONCE: u16 = 500;
/// Data segments of each connection.
const SEGMENTS: u32 = 16;
const CLIENT: [u8; 4] = [192, 0, 2, 1];
const SERVER: [u8; 4] = [198, 51, 100, 1];

/// A pcap file of microseconds, and its packets.
struct CaptureFile {
    bytes: Vec<u8>,
    packets: u32,
}

impl CaptureFile {
    fn new() -> Self {
        let mut bytes = Vec::new();
        for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65_535, 1] {
            bytes.extend(word.to_le_bytes());
        }
        Self { bytes, packets: 0 }
    }

    /// A segment of the client or the server, a microsecond after the one before; the port is the client's.
    fn segment(&mut self, is_client: bool, port: u16, (seq, ack): (u32, u32), flags: &str, payload: &[u8]) {
        let (from, to) = if is_client { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let ports = if is_client { (port, 443) } else { (443, port) };
        let ip = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from, to, 64);
        let mut tcp = ip.tcp(ports.0, ports.1, seq, 500);
        for flag in flags.chars() {
            tcp = match flag {
                'S' => tcp.syn(),
                'A' => tcp.ack(ack),
                'R' => tcp.rst(),
                _ => tcp.psh(),
            };
        }
        let length = u32::try_from(tcp.size(payload.len())).expect("a packet");
        let time = [self.packets / 1_000_000, self.packets % 1_000_000];
        for word in [time[0], time[1], length, length] {
            self.bytes.extend(word.to_le_bytes());
        }
        tcp.write(&mut self.bytes, payload).expect("a vector");
        self.packets += 1;
    }

    /// A round of connections, interleaved; the server resets each of them.
    fn connections(&mut self, first_port: u16) {
        let ports = first_port..first_port + AT_ONCE;
        ports.clone().for_each(|port| self.segment(true, port, (999, 0), "S", &[]));
        ports.clone().for_each(|port| self.segment(false, port, (1_999, 1_000), "SA", &[]));
        ports.clone().for_each(|port| self.segment(true, port, (1_000, 2_000), "A", &[]));
        let mut sent = 0;
        for number in 0..SEGMENTS {
            let payload = [b'x'; 400];
            ports.clone().for_each(|port| self.segment(true, port, (1_000 + sent, 2_000), "PA", &payload));
            sent += 400;
            if number % 2 == 1 {
                ports.clone().for_each(|port| self.segment(false, port, (2_000, 1_000 + sent), "A", &[]));
            }
        }
        ports.for_each(|port| self.segment(false, port, (2_000, 1_000 + sent), "RA", &[]));
    }
}

fn follow(criterion: &mut Criterion) {
    let mut file = CaptureFile::new();
    (0..10).for_each(|round| file.connections(20_000 + round * AT_ONCE));
    let CaptureFile { bytes, packets } = file;
    let mut group = criterion.benchmark_group("capture");
    group.throughput(Throughput::Elements(packets.into()));
    group.bench_function("follow", |bencher| {
        bencher.iter(|| {
            let input = Cursor::new(bytes.clone());
            let mut capture = Capture::new(input, Vec::new(), 1, false).expect("a capture");
            let mut resets = 0;
            while let Some(record) = capture.next_record() {
                black_box(record);
                resets += 1;
            }
            assert_eq!(resets, 10 * u32::from(AT_ONCE));
        });
    });
}

criterion_group!(benches, follow);
criterion_main!(benches);
