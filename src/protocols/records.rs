//! Typed views of the cache's records, for adapters: what a kind of record is, and how one is read.
//!
//! Invariants: writing a record and reading it gives the same value; words that are no such record are an error, never
//! a default.
//! Must not: know a protocol.

use crate::{
    positions::{Book, Draft, Record, RecordKey},
    scanner::Unvalued,
    types::{Address, B256, U256},
};

/// A typed view of one kind of record.
pub(super) trait Stored: Sized {
    /// The record's kind.
    const KIND: u16;
    /// What it is, for people.
    const NAME: &'static str;

    /// The words.
    fn to_record(&self) -> Record;

    /// The value of these words, `None` if they are not of this kind's form.
    fn from_record(words: &[U256]) -> Option<Self>;
}

/// Where records are read: the cache, or an edit of it.
pub(super) trait Records {
    /// The record of this key.
    fn words(&self, key: &RecordKey) -> Option<&Record>;
}

impl Records for Book {
    fn words(&self, key: &RecordKey) -> Option<&Record> {
        self.record(key).map(AsRef::as_ref)
    }
}

impl Records for Draft<'_> {
    fn words(&self, key: &RecordKey) -> Option<&Record> {
        self.record(key).map(AsRef::as_ref)
    }
}

/// A record that may not be there.
pub(super) fn find<T: Stored>(records: &impl Records, id: B256) -> Result<Option<T>, Unvalued> {
    let Some(words) = records.words(&RecordKey { kind: T::KIND, id }) else { return Ok(None) };
    T::from_record(words)
        .map(Some)
        .ok_or_else(|| Unvalued::Missing(format!("{} {}: its record is malformed", T::NAME, U256::from_be_bytes(id.0))))
}

/// A numbered record that must be there.
pub(super) fn load<T: Stored>(records: &impl Records, number: u64) -> Result<T, Unvalued> {
    find(records, B256::from(U256::from(number)))?.ok_or_else(|| Unvalued::Missing(format!("{} {number}", T::NAME)))
}

/// All records of one kind by id; malformed ones are left out.
pub(super) fn all<T: Stored>(book: &Book) -> impl Iterator<Item = (B256, T)> {
    book.records_of(T::KIND).filter_map(|(key, words)| Some((key.id, T::from_record(words)?)))
}

/// The number of a numbered record's id.
pub(super) fn number<N: TryFrom<U256>>(id: B256) -> Option<N> {
    N::try_from(U256::from_be_bytes(id.0)).ok()
}

/// An address as it stands on the EVM stack.
pub(super) fn address_word(address: Address) -> U256 {
    address.into_word().into()
}

/// The address in a word, `None` where more than an address stands there.
pub(super) fn word_address(word: U256) -> Option<Address> {
    let bytes = word.to_be_bytes::<32>();
    let (padding, address) = bytes.split_first_chunk::<12>()?;
    (*padding == [0; 12]).then(|| Address::from_slice(address))
}
