//! Without a compiler nothing is registered, and no delta is made.
#![cfg(feature = "compiler")]

use super::*;

/// Two pages of memory, all of whose bytes are 7.
fn memory() -> Vec<u8> {
    vec![7; 2 * PAGE]
}

/// Returns a memory with a 9 at each of some addresses.
fn changed(mut memory: Vec<u8>, addresses: impl IntoIterator<Item = usize>) -> Vec<u8> {
    for address in addresses {
        memory[address] = 9;
    }
    memory
}

/// Makes the memory that a delta was made from out of the one before.
fn applied(mut memory: Vec<u8>, delta: &Delta) -> Vec<u8> {
    memory.resize(delta.pages() as usize * PAGE, 0);
    for (address, run) in delta.addresses().iter().zip(delta.runs()) {
        let address = *address as usize;
        memory[address..address + run.len()].copy_from_slice(run);
    }
    memory
}

/// Compares two memories, and returns the addresses and lengths of the runs.
fn runs(before: Vec<u8>, after: Vec<u8>) -> Option<Vec<(u32, u32)>> {
    let delta = Delta::between(&before, &after)?;
    assert_eq!(
        Delta::unpack(&delta.pack().unwrap()),
        Ok(delta.clone()),
        "it is read as it was written"
    );
    assert!(applied(before, &delta) == after, "{:?}", delta.addresses);
    let addresses = delta.addresses.iter().copied();
    Some(addresses.zip(delta.lengths.iter().copied()).collect())
}

#[test]
fn what_differs_is_found_and_neighbours_are_one_run() {
    let last = 2 * PAGE - 1;
    for (addresses, wanted) in [
        (&[][..], &[][..]),
        (&[0], &[(0, 1)]),
        (&[last], &[(last as u32, 1)]),
        (&[10, 11, 12], &[(10, 3)]),
        // 63 and 64 equal bytes between them.
        (&[100, 164], &[(100, 65)]),
        (&[100, 165], &[(100, 1), (165, 1)]),
        // On both sides of the end of a block, and of a page.
        (&[4095, 4096], &[(4095, 2)]),
        (&[PAGE - 1, PAGE], &[(PAGE as u32 - 1, 2)]),
    ] {
        let after = changed(memory(), addresses.iter().copied());
        assert_eq!(runs(memory(), after).unwrap(), wanted, "{addresses:?}");
    }
}

#[test]
fn memory_that_grew_was_zero_before() {
    let mut after = memory();
    after.resize(4 * PAGE, 0);
    assert_eq!(runs(memory(), after.clone()), Some(Vec::new()));
    let delta = Delta::between(&memory(), &after).unwrap();
    assert_eq!(delta.pages(), 4);
    let after = changed(after, [2 * PAGE, 4 * PAGE - 1]);
    let wanted = vec![(2 * PAGE as u32, 1), (4 * PAGE as u32 - 1, 1)];
    assert_eq!(runs(memory(), after), Some(wanted));
}

#[test]
fn too_many_runs_are_joined_as_far_as_interpreters_were_promised() {
    let every = |step: usize, count: usize| {
        let before = vec![7; (step * count).next_multiple_of(PAGE)];
        let after = changed(before.clone(), (0..count).map(|number| number * step));
        runs(before, after).map(|runs| runs.len())
    };
    assert_eq!(every(100, MAX_RUNS), Some(MAX_RUNS));
    // One more, 99 equal bytes apart: all of them are one.
    assert_eq!(every(100, MAX_RUNS + 1), Some(1));
    // 4,096 equal bytes apart, and they stay apart.
    assert_eq!(every(4097, MAX_RUNS + 1), None);
    // Joined, they are too large.
    assert_eq!(every(1000, MAX_RUNS + 1), None);
}

#[test]
fn more_than_a_delta_may_have_is_none() {
    let before = vec![7; MAX_RUN_BYTES + PAGE];
    let most = changed(before.clone(), 0..MAX_RUN_BYTES);
    let wanted = vec![(0, MAX_RUN_BYTES as u32)];
    assert_eq!(runs(before.clone(), most), Some(wanted));
    let more = changed(before.clone(), 0..MAX_RUN_BYTES + 1);
    assert_eq!(Delta::between(&before, &more), None);
    // So many runs that no delta could hold them, whatever was joined: 64 equal bytes apart.
    let before = vec![7; 8 << 20];
    let many = changed(before.clone(), (0..before.len()).step_by(65));
    assert_eq!(Delta::between(&before, &many), None);
}

#[test]
fn damaged_deltas_are_refused_with_what_is_wrong() {
    let after = changed(memory(), (100..110).chain(200..220));
    let delta = Delta::between(&memory(), &after).unwrap();
    let raw = delta.raw();
    assert_eq!(Delta::parse(&raw.clone().into()), Ok(delta));

    let number = |place: usize, number: u32| {
        let mut raw = raw.clone();
        let place = MAGIC.len() + place * 4;
        raw[place..place + 4].copy_from_slice(&number.to_le_bytes());
        raw
    };
    // Places of numbers: the format, the pages, the runs; then address and length of each.
    for (damaged, wanted) in [
        (b"wafer".to_vec(), "its end is missing"),
        (raw[..MAGIC.len() + 3].to_vec(), "its end is missing"),
        (raw[..HEADER_BYTES + 9].to_vec(), "its end is missing"),
        (
            b"\0asm\x0d\0\x01\0....".to_vec(),
            "it is not a memory delta",
        ),
        (number(0, 2), "it has format 2"),
        (number(1, 0), "its last run ends at 220, beyond its 0 pages"),
        (number(1, MAX_PAGES + 1), "it has 2 runs in 65537 pages"),
        (number(2, u32::MAX), "it has 4294967295 runs"),
        (number(2, 3), "its last run ends at 303174162"),
        (number(2, MAX_RUNS as u32), "run 3 is empty, or begins"),
        // A run fewer than there are: what it had is taken for bytes.
        (number(2, 1), "its runs have 10 bytes, and 38 are there"),
        (number(4, 0), "run 0 is empty"),
        (number(5, 109), "run 1 is empty, or begins before"),
        (number(5, u32::MAX), "its last run ends at 4294967315"),
        (number(6, u32::MAX), "its last run ends at 4294967495"),
        (number(6, 21), "its runs have 31 bytes, and 30 are there"),
        (raw[..raw.len() - 1].to_vec(), "its runs have 30 bytes"),
        ([&raw[..], b"x"].concat(), "its runs have 30 bytes"),
    ] {
        let said = Delta::parse(&damaged.clone().into()).unwrap_err();
        assert!(said.contains(wanted), "{wanted}: {said}");
        let packed = zstd::bulk::compress(&damaged, 1).unwrap();
        assert_eq!(Delta::unpack(&packed), Err(said));
    }
}

#[test]
fn no_memory_is_taken_for_what_does_not_fit() {
    let compressed = |bytes: usize| zstd::bulk::compress(&vec![0; bytes], 1).unwrap();
    let bomb = compressed(MAX_BYTES + 1);
    assert!(bomb.len() < 4 << 10, "{}", bomb.len());
    for (packed, wanted) in [
        (bomb, "bytes; there are at most"),
        (compressed(MAX_BYTES), "it is not a memory delta"),
        (compressed(100)[..8].to_vec(), "it cannot be decompressed: "),
        (b"\0asm\x0d\0\x01\0".to_vec(), "it does not say how many"),
        (Vec::new(), "it does not say how many"),
    ] {
        let said = Delta::unpack(&packed).unwrap_err();
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let largest = Delta {
        pages: MAX_PAGES,
        addresses: vec![0],
        lengths: vec![MAX_RUN_BYTES as u32],
        bytes: vec![1; MAX_RUN_BYTES].into(),
    };
    let packed = largest.pack().unwrap();
    assert!(packed.len() as u64 <= Delta::max_packed_bytes());
    assert_eq!(Delta::unpack(&packed), Ok(largest));
}
