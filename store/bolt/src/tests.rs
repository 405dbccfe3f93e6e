use std::{collections::BTreeMap, convert::Infallible, ops::ControlFlow};

use proptest::prelude::*;

use crate::{Damage, File, PAGE_BYTES, Refused, Rows, Writer, layout::Meta, measure};

type Bucket = BTreeMap<Vec<u8>, Vec<u8>>;
type Buckets = BTreeMap<Vec<u8>, Bucket>;

fn put<E>(buckets: &Buckets, rows: &mut dyn Rows<E>) -> Result<(), Refused<E>> {
    for (name, bucket) in buckets {
        rows.bucket(name)?;
        for (key, value) in bucket {
            let half = value.len() / 2;
            rows.put(key, &[&value[..half], &value[half..]])?;
        }
    }
    Ok(())
}

fn written(buckets: &Buckets) -> Vec<u8> {
    let sizes = measure::<Infallible>(|rows| put(buckets, rows)).expect("rows in order");
    let mut file = Vec::new();
    let sink = |page: Vec<u8>| {
        assert_eq!(page.len() % PAGE_BYTES, 0);
        file.extend_from_slice(&page);
        Ok::<_, Infallible>(())
    };
    let mut writer = Writer::begin(sizes, sink).expect("it takes everything");
    put(buckets, &mut writer).expect("the same rows");
    writer.finish(sizes).expect("the same rows");
    assert_eq!(file.len() as u64, sizes.bytes());
    file
}

fn read(bytes: &[u8]) -> Result<Buckets, Damage> {
    let file = File::open(bytes)?;
    let mut buckets = Buckets::new();
    for name in file.buckets()? {
        let mut bucket = Bucket::new();
        let found = file.scan(&name, |key, value| {
            bucket.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })?;
        assert!(found, "a bucket that is listed is there");
        buckets.insert(name, bucket);
    }
    Ok(buckets)
}

fn numbered(count: u32, value: usize) -> Bucket {
    let row = |number: u32| (number.to_be_bytes().to_vec(), vec![number as u8; value]);
    (0..count).map(row).collect()
}

#[test]
fn what_is_written_is_read() {
    let buckets = Buckets::from([
        (b"deep".to_vec(), numbered(30_000, 100)),
        (b"empty".to_vec(), Bucket::new()),
        (b"large".to_vec(), numbered(3, 100_000)),
        (b"pages".to_vec(), numbered(50, PAGE_BYTES)),
        (b"small".to_vec(), numbered(1, 0)),
    ]);
    assert_eq!(read(&written(&buckets)).expect("intact"), buckets);
    assert_eq!(
        read(&written(&Buckets::new())).expect("intact"),
        Buckets::new()
    );
}

#[test]
fn rows_out_of_order_and_other_rows_than_measured_are_refused() {
    let twice = measure::<Infallible>(|rows| {
        rows.bucket(b"b")?;
        rows.put(b"k", &[])?;
        rows.put(b"k", &[])
    });
    assert!(matches!(twice, Err(Refused::Order)), "{twice:?}");
    let early = measure::<Infallible>(|rows| rows.put(b"k", &[]));
    assert!(matches!(early, Err(Refused::Order)), "{early:?}");
    let nameless = measure::<Infallible>(|rows| {
        rows.bucket(b"")?;
        rows.bucket(b"b")
    });
    assert!(matches!(nameless, Err(Refused::Key(0))), "{nameless:?}");
    let sizes = measure::<Infallible>(|rows| rows.bucket(b"b")).expect("in order");
    let writer = Writer::begin(sizes, |_| Ok::<_, Infallible>(())).expect("taken");
    let changed = writer.finish(sizes);
    assert!(matches!(changed, Err(Refused::Changed)), "{changed:?}");
}

#[test]
fn either_meta_page_will_do_and_the_newer_one_counts() {
    let buckets = Buckets::from([(b"b".to_vec(), numbered(10, 10))]);
    for lost in [0, PAGE_BYTES] {
        let mut file = written(&buckets);
        file[lost + 16] ^= 1;
        assert_eq!(read(&file).expect("one is left"), buckets);
    }
    let mut file = written(&buckets);
    file[16] ^= 1;
    file[PAGE_BYTES + 16] ^= 1;
    assert!(matches!(read(&file), Err(Damage::NoFile)));
}

proptest! {
    #[test]
    fn any_rows_come_back(buckets: BTreeMap<[u8; 2], BTreeMap<[u8; 3], Vec<u8>>>) {
        let buckets: Buckets = buckets
            .into_iter()
            .map(|(name, bucket)| {
                let rows = bucket.into_iter().map(|(key, value)| (key.to_vec(), value));
                (name.to_vec(), rows.collect())
            })
            .collect();
        prop_assert_eq!(read(&written(&buckets)).expect("intact"), buckets);
    }

    #[test]
    fn damage_is_found_or_harmless(at in 3 * PAGE_BYTES..60_000, flip in 1..=u8::MAX) {
        let buckets = Buckets::from([(b"b".to_vec(), numbered(600, 80))]);
        let mut file = written(&buckets);
        if let Some(byte) = file.get_mut(at) {
            *byte ^= flip;
        }
        // Nothing panics, and nothing goes on for ever.
        let _ = read(&file);
    }

    #[test]
    fn arbitrary_meta_pages_do_not_panic(bytes: Vec<u8>) {
        let _ = Meta::decode(&bytes);
        let _ = read(&bytes);
    }
}
