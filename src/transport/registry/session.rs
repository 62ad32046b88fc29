//! Sessions: how far an upload has come, kept in the store so that a later process goes on with it.
//!
//! A session is a place that the registry gave, and how many bytes it has. Its record says so
//! after each chunk, but is only a hint: whoever goes on asks the registry. Only one process uses
//! a record at a time. Places on another host than the registry's own are not kept, because what
//! may be done there stands in their query.

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, json};
use crate::plan::key;
use crate::store::{Claim, KeyRecord, Store};
use crate::transport::http::Url;
use crate::transport::registry::endpoint::Endpoint;

/// An upload that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Where it goes on.
    pub(crate) place: Url,
    /// How many bytes the registry has.
    pub(crate) offset: u64,
    /// Whether the registry said so last; else it must be asked.
    pub(crate) is_certain: bool,
}

/// The record of one upload, if this process may use it.
pub(crate) struct SessionRecord<'a> {
    store: &'a Store,
    key: KeyRecord,
    /// The registry: only places there are kept.
    base: Url,
    claim: Option<Claim>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    place: String,
    offset: u64,
}

impl<'a> SessionRecord<'a> {
    /// The record of a blob on its way to an endpoint. Where another process sends the same blob to
    /// the same place, or the store cannot be written, there is none.
    pub(crate) fn open(
        store: &'a Store,
        endpoint: &Endpoint,
        base: Url,
        blob: &Digest,
    ) -> SessionRecord<'a> {
        let key = key::upload(&endpoint.host, &endpoint.repository, blob);
        let claim = store.claim(&key).ok().flatten();
        SessionRecord {
            store,
            key,
            base,
            claim,
        }
    }

    /// Where an earlier process has come to.
    pub(crate) fn recall(&self) -> Option<Session> {
        self.claim.as_ref()?;
        let value = self.store.record(&self.key).ok()??;
        let kept: Kept = serde_json::from_slice(&value).ok()?;
        let place: Url = kept.place.parse().ok()?;
        place.same_origin(&self.base).then_some(Session {
            place,
            offset: kept.offset,
            is_certain: false,
        })
    }

    /// Keeps where we are. A store that cannot be written costs a later process the way, no more.
    pub(crate) fn remember(&self, session: &Session) {
        if self.claim.is_some() && session.place.same_origin(&self.base) {
            let kept = Kept {
                place: session.place.as_requested(),
                offset: session.offset,
            };
            let _ = self.store.put_record(&self.key, &json::to_vec(&kept));
        }
    }

    /// The upload is done, or worth nothing.
    pub(crate) fn forget(&self) {
        if self.claim.is_some() {
            let _ = self.store.forget_record(&self.key);
        }
    }
}

/// How many bytes an upload has, by a `Range` of `0-LAST`. docker-registry says `0-0` for none,
/// too, and who means one byte by it gets that byte again.
pub(crate) fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range.strip_prefix("bytes").unwrap_or(range);
    let range = range.trim_start_matches(['=', ' ', ':']);
    let (first, last) = range.split_once('-')?;
    let (_, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    match last {
        0 => Some(0),
        last => last.checked_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_uploads_are_read_as_registries_write_them() {
        for (text, expected) in [
            ("0-0", Some(0)),
            ("0-1", Some(2)),
            ("bytes=0-99", Some(100)),
            ("bytes 0-99", Some(100)),
            (" 0-99 ", Some(100)),
            ("50-99", Some(100)),
            ("0--1", None),
            ("", None),
            ("99", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(received(text), expected, "{text:?}");
        }
    }

    #[test]
    fn one_process_at_a_time_keeps_a_session_and_only_on_the_registry_itself() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (base, blob): (Url, _) = ("https://r.x/v2/".parse().unwrap(), Digest::of(b"blob"));
        let key = key::upload("r.x", "a/b", &blob);
        let open = || SessionRecord {
            store: &store,
            key: key.clone(),
            base: base.clone(),
            claim: store.claim(&key).unwrap(),
        };
        let session = |place: &str| Session {
            place: place.parse().unwrap(),
            offset: 7,
            is_certain: true,
        };
        let first = open();
        assert_eq!(first.recall(), None);
        first.remember(&session("https://elsewhere.x/up?signature=secret"));
        assert_eq!(first.recall(), None);
        first.remember(&session("https://r.x/up/1?_state=x"));
        assert_eq!(open().recall(), None, "another process is at it");
        drop(first);
        let later = open();
        let found = later.recall().unwrap();
        assert_eq!(found.place.as_requested(), "https://r.x/up/1?_state=x");
        assert_eq!((found.offset, found.is_certain), (7, false));
        later.forget();
        assert_eq!(later.recall(), None);
    }
}
