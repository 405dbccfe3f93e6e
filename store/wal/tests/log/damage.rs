//! Every byte of a log flipped; files missing, shortened, exchanged.

use super::script::Contents;
use super::*;
use mizzen_wal::format::{BATCH_HEADER_LEN, BatchEncoder, BatchHeader, Place, SEGMENT_HEADER_LEN};

/// A log over several segments with each kind of record, and its contents batch by batch.
fn small_log() -> (MemFs, Wal, Vec<Contents>) {
    let fs = MemFs::new();
    let (wal, _) = open(&fs);
    let mut now = Contents::default();
    let mut history = vec![];
    let mut term = 1;
    for round in 0..8_u64 {
        let next = now.next_index();
        for index in next..next + 3 {
            let new = entry(term, index, vec![round as u8; 60 + 40 * round as usize]);
            now.append(&new);
            wal.append(vec![new], ignore()).expect("append");
        }
        run(&wal);
        history.push(now.clone());
        let vote = Bytes::from(format!("vote {round}"));
        now.vote = Some(vote.clone());
        wal.save_vote(vote, ignore()).expect("vote");
        wal.save_committed((term, next)).expect("committed");
        if round == 3 {
            term += 1;
            now.truncate(Some(next + 1));
            wal.truncate_after(Some(next + 1), ignore())
                .expect("truncate");
        }
        wal.wait_sequence(wal.submitted_sequence())
            .expect("durable");
        history.push(now.clone());
        if round == 5 {
            now.purge((1, 2));
            wal.purge((1, 2)).expect("purge");
        }
    }
    wal.wait_sequence(wal.submitted_sequence())
        .expect("durable");
    (fs, wal, history)
}

fn contents(fs: &MemFs) -> Result<Contents, WalError> {
    let (wal, recovered) = try_open(fs)?;
    Contents::of(&wal, &recovered)
}

fn names(fs: &MemFs) -> Vec<String> {
    let mut names = fs.list().expect("the directory lists");
    names.sort();
    names
}

fn expect_refusal(result: Result<Contents, WalError>, name: &str, context: &str) {
    let text = match result {
        Ok(contents) => panic!("{context}: opened with {contents:?}"),
        Err(error) => error.to_string(),
    };
    assert!(text.contains(name), "{context}: {text}");
}

/// Flips bits of every byte of every file; `accept` judges what is recovered.
fn flip_everything(fs: &MemFs, accept: impl Fn(&Contents) -> bool) -> (usize, usize) {
    let (mut opened, mut refused) = (0, 0);
    for name in names(fs) {
        let bytes = fs.contents(&name).expect("the file is there");
        for at in 0..bytes.len() {
            for mask in [0x01, 0x80, 0xff] {
                let context = format!("flip {mask:#x} of {name} at {at}");
                let flipped = fs.duplicate();
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                flipped.replace(&name, damaged);
                match contents(&flipped) {
                    Ok(contents) => {
                        assert!(accept(&contents), "{context}: opened with {contents:?}");
                        opened += 1;
                    }
                    Err(error) => {
                        let text = error.to_string();
                        assert!(text.contains(&name), "{context}: {text}");
                        refused += 1;
                    }
                }
            }
        }
    }
    (opened, refused)
}

#[test]
fn a_flipped_byte_of_a_closed_log_is_harmless_or_refused() {
    let (fs, wal, history) = small_log();
    assert!(wal.segments() >= 3, "{} segments", wal.segments());
    wal.close().expect("close");
    let expected = history.last().expect("there is a state");
    let (opened, refused) = flip_everything(&fs, |contents| contents == expected);
    assert!(
        opened > 0 && refused > 3 * 3000,
        "opened {opened}, refused {refused}"
    );
}

#[test]
fn a_flipped_byte_of_a_killed_log_costs_at_most_its_last_batch() {
    let (fs, wal, history) = small_log();
    drop(wal);
    let [.., before, last] = &history[..] else {
        panic!("there are two states")
    };
    assert_ne!(before, last);
    let (_, refused) = flip_everything(&fs, |contents| contents == last || contents == before);
    assert!(refused > 3 * 3000, "refused {refused}");
}

#[test]
fn a_flipped_byte_after_recovery_is_refused_even_in_the_last_batch() {
    let (fs, wal, history) = small_log();
    drop(wal);
    let fs = fs.crash(9);
    let (wal, _) = open(&fs);
    run(&wal); // Writes the idle marker.
    let (_, refused) = flip_everything(&fs, |contents| Some(contents) == history.last());
    assert!(refused > 3 * 3000, "refused {refused}");
}

#[test]
fn a_missing_segment_is_refused() {
    let (fs, wal, _) = small_log();
    wal.close().expect("close");
    let segments: Vec<_> = names(&fs)
        .into_iter()
        .filter(|name| !name.starts_with("spare"))
        .collect();
    let (prepared, used) = segments.split_last().expect("there are segments");
    for name in used {
        let damaged = fs.duplicate();
        damaged.remove(name).expect("remove");
        expect_refusal(contents(&damaged), name, &format!("without {name}"));
    }
    let damaged = fs.duplicate();
    damaged.remove(prepared).expect("remove");
    assert!(
        contents(&damaged).is_ok(),
        "the prepared segment holds nothing"
    );
}

#[test]
fn no_segment_but_a_spare_is_refused() {
    let fs = MemFs::new();
    fs.replace("spare-0000000000000001.wal", vec![0; 2048]);
    expect_refusal(contents(&fs), "0000000000000001.wal", "spare alone");
}

#[test]
fn files_of_wrong_size_order_or_log_are_refused() {
    let (fs, wal, _) = small_log();
    wal.close().expect("close");
    let segments: Vec<_> = names(&fs)
        .into_iter()
        .filter(|name| !name.starts_with("spare"))
        .collect();
    let (first, second) = (&segments[0], &segments[1]);
    for len in [0, 10, 64, 2000, 2047, 2049] {
        let mut bytes = fs.contents(first).expect("file");
        bytes.resize(len, 0);
        let damaged = fs.duplicate();
        damaged.replace(first, bytes);
        expect_refusal(
            contents(&damaged),
            first,
            &format!("{first} of {len} bytes"),
        );
    }
    let damaged = fs.duplicate();
    damaged.replace(second, fs.contents(first).expect("file"));
    expect_refusal(contents(&damaged), second, "a segment under another's name");

    let other = MemFs::new();
    let options = Options {
        salt: Some(8),
        ..stepped()
    };
    let (wal, _) = Wal::open(Arc::new(other.clone()), options).expect("open");
    for index in 1..20 {
        wal.append(vec![entry(1, index, [0; 300])], ignore())
            .expect("append");
        run(&wal);
    }
    let damaged = fs.duplicate();
    damaged.replace(second, other.contents(second).expect("file"));
    expect_refusal(contents(&damaged), second, "a segment of another log");
}

#[test]
fn an_unknown_version_is_refused_by_its_number() {
    let (fs, wal, _) = small_log();
    wal.close().expect("close");
    let name = &names(&fs)[0];
    let mut bytes = fs.contents(name).expect("file");
    bytes[8] = 2;
    fs.replace(name, bytes);
    let error = contents(&fs).expect_err("refused");
    assert!(
        matches!(error, WalError::UnsupportedVersion { version: 2, .. }),
        "{error}"
    );
    assert!(error.to_string().contains(name), "{error}");
}

#[test]
fn damage_found_by_a_read_names_the_file() {
    let (fs, wal, _) = small_log();
    let first = wal.first_index().expect("not empty");
    let name = &names(&fs)[0];
    let file = fs.open(name).expect("open");
    let mut byte = [0];
    file.read_at(300, &mut byte).expect("read");
    file.write_at(300, &[byte[0] ^ 1]).expect("write");
    let error = wal.read(first..first + 5, usize::MAX).expect_err("damage");
    assert!(error.to_string().contains(name), "{error}");
}

/// A client that knows the format, but not the salt, cannot make a torn batch look like damage.
#[test]
fn a_payload_that_looks_like_a_batch_is_only_a_payload() {
    let torn_with = |payload: &[u8]| {
        let fs = MemFs::new();
        let (wal, _) = open(&fs);
        wal.append(vec![entry(1, 1, payload)], ignore())
            .expect("append");
        wal.wait_durable(1).expect("durable");
        let name = "0000000000000001.wal";
        let mut bytes = fs.contents(name).expect("file");
        bytes[SEGMENT_HEADER_LEN as usize] ^= 1;
        fs.replace(name, bytes.clone());
        (fs, bytes)
    };
    let (_, bytes) = torn_with(&[0xee; 600]);
    let start = bytes
        .iter()
        .position(|&byte| byte == 0xee)
        .expect("the payload is there");
    let at = start.next_multiple_of(8);
    let place = Place {
        segment: 1,
        position: u32::try_from(at).expect("small"),
    };
    let forged = |salt| {
        let header = BatchHeader {
            body_crc: 0,
            body_len: 0,
            sequence: 9,
            place,
            idle: false,
            synced: place,
            committed: None,
        };
        let mut payload = vec![0xee; 600];
        payload[at - start..at - start + BATCH_HEADER_LEN].copy_from_slice(&header.encode(salt));
        contents(&torn_with(&payload).0)
    };
    for salt in [0, 1, 8] {
        assert!(
            forged(salt)
                .expect("the torn batch is cut")
                .entries
                .is_empty()
        );
    }
    assert!(forged(7).is_err(), "with the salt it is a header");
}

/// A read that finds another segment's bytes, whole and valid, does not use them.
#[test]
fn a_read_verifies_where_a_batch_belongs() {
    let (fs, wal, _) = small_log();
    let name = "0000000000000001.wal";
    let other = fs.contents("0000000000000002.wal").expect("file");
    fs.open(name)
        .and_then(|file| file.write_at(0, &other))
        .expect("write");
    let error = wal.read(3..4, 0).expect_err("damage").to_string();
    assert!(
        error.contains(name) && error.contains("no batch where one was written"),
        "{error}"
    );
}

/// The idle marker at the end of a log of one segment.
fn end_of_log(fs: &MemFs) -> (String, Vec<u8>, BatchHeader) {
    let name = "0000000000000001.wal".to_owned();
    let bytes = fs.contents(&name).expect("file");
    let mut at = SEGMENT_HEADER_LEN as usize;
    loop {
        let header = BatchHeader::decode(&bytes[at..], 7).expect("a batch or the marker");
        if header.idle {
            return (name, bytes, header);
        }
        at += header.total_len();
    }
}

fn log_of_one_entry() -> MemFs {
    let fs = MemFs::new();
    let (wal, _) = open(&fs);
    wal.append(vec![entry(1, 1, "first")], ignore())
        .expect("append");
    run(&wal);
    fs.kill()
}

fn batch(header: BatchHeader) -> Vec<u8> {
    let mut encoder = BatchEncoder::new();
    encoder.begin();
    encoder.entry(&entry(1, 2, "second"));
    encoder.finish(header, 7).to_vec()
}

#[test]
fn a_batch_written_to_the_wrong_place_is_not_followed() {
    let fs = log_of_one_entry();
    let (name, bytes, marker) = end_of_log(&fs);
    let at = marker.place.position as usize;
    let right = BatchHeader {
        idle: false,
        ..marker
    };
    let wrong = |segment, position| BatchHeader {
        place: Place { segment, position },
        ..right
    };
    let headers = [
        (right, 2),
        (wrong(2, right.place.position), 1),
        (wrong(1, right.place.position + 8), 1),
    ];
    for (header, last) in headers {
        let mut damaged = bytes.clone();
        let batch = batch(header);
        damaged[at..at + batch.len()].copy_from_slice(&batch);
        let fs = fs.duplicate();
        fs.replace(&name, damaged);
        assert_eq!(open(&fs).1.last, Some((1, last)), "{header:?}");
    }
}

#[test]
fn what_is_cut_is_erased_from_the_disk() {
    let fs = log_of_one_entry();
    let (name, mut bytes, marker) = end_of_log(&fs);
    let position = marker.place.position + 400;
    let place = Place {
        segment: 1,
        position,
    };
    let stray = BatchHeader {
        idle: false,
        sequence: marker.sequence + 1,
        place,
        ..marker
    };
    let batch = batch(stray);
    let at = position as usize;
    bytes[at..at + batch.len()].copy_from_slice(&batch);
    fs.replace(&name, bytes);
    drop(open(&fs));
    let left = fs.crash(0).contents(&name).expect("file");
    assert_eq!(left[at..at + BATCH_HEADER_LEN], [0; BATCH_HEADER_LEN]);
}
