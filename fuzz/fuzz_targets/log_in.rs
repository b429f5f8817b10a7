//! Whatever a server sends before it lets us in: never a panic, never the password for a server that may be anybody.

#![no_main]

use bytes::BytesMut;
use forebay::source::postgres::auth::{Channel, LogIn, Progress};
use forebay::source::postgres::conninfo::Settings;
use forebay::source::postgres::frames::Frames;
use libfuzzer_sys::fuzz_target;
use postgres_protocol::message::backend::Message;

const PASSWORD: &[u8] = b"correct-horse-battery";

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    let query = ["", "require_auth=!none", "channel_binding=require", "require_auth=scram-sha-256"];
    let url = format!("postgres://u:correct-horse-battery@h/d?{}", query[usize::from(kind >> 2) % query.len()]);
    let settings = Settings::from_url(&url).unwrap();
    let tls = kind & 1 == 1;
    let channel = Channel { tls, verified: false, end_point: tls.then(|| vec![7; 32]) };
    let Ok(mut log_in) = LogIn::new(&settings, channel) else { return };
    let mut frames = Frames::for_log_in();
    let mut out = BytesMut::new();
    for piece in data.chunks(usize::from(kind >> 4) + 1) {
        frames.space().extend_from_slice(piece);
        frames.received();
        loop {
            let frame = match frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return,
            };
            let mut bytes = BytesMut::from(frames.bytes(0..frame.body.end));
            let Ok(Some(message)) = Message::parse(&mut bytes) else { return };
            let progress = log_in.take(&message, &mut out);
            assert!(!out.windows(PASSWORD.len()).any(|window| window == PASSWORD));
            match progress {
                Ok(Progress::Pending) => {}
                Ok(Progress::Ready) | Err(_) => return,
            }
        }
    }
});
