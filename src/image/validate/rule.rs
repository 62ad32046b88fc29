//! The rules that an image must keep, each with a code that never changes.

use std::fmt;

/// A rule of the image spec, or of those who read images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Every blob that is pointed at is there and can be read.
    BlobThere,
    /// A blob has the size that its descriptor says.
    BlobSize,
    /// A blob has the digest that its descriptor says.
    BlobDigest,
    /// A document is JSON, an object, and no larger than readers take.
    Json,
    /// A descriptor has a media type, a digest and a size in their forms.
    Descriptor,
    /// Annotations are texts under names that are not empty.
    Annotations,
    /// `schemaVersion` is 2.
    SchemaVersion,
    /// A document's own `mediaType` is that of the descriptor that points at it.
    MediaType,
    /// A manifest points at a config and a list of layers.
    Manifest,
    /// The config and the layers are of the manifest's own family of media types.
    OneFormat,
    /// An index has a list of manifests.
    Index,
    /// A platform in an index names os and architecture, and they are the config's.
    Platform,
    /// A config has the required fields, and all fields have their types.
    Config,
    /// Times are RFC 3339.
    Time,
    /// `rootfs.type` is `layers`.
    RootFsType,
    /// There are as many diff_ids as layers.
    DiffIdCount,
    /// As many lines of history as layers are not marked empty.
    HistoryCount,
    /// A layer decompresses to its end, and as its media type says.
    LayerCodec,
    /// A layer's uncompressed bytes have the digest that the config says.
    DiffId,
    /// A layer is a tar from its first byte to its last.
    Tar,
    /// The names in a layer stay below its root.
    EntryName,
    /// No name stands in a layer twice.
    EntryTwice,
    /// Entries are of the known kinds.
    EntryKind,
    /// A directory comes before what is in it, and what is above an entry is a directory.
    EntryOrder,
    /// Hard links point at names below the root.
    HardLink,
    /// Whiteouts are empty files that name something to remove.
    Whiteout,
}

/// Rule, code, section of the spec.
const RULES: [(Rule, &str, &str); 26] = [
    (Rule::BlobThere, "IS001", "image-layout.md, \"Blobs\""),
    (Rule::BlobSize, "IS002", "descriptor.md, \"Properties\""),
    (Rule::BlobDigest, "IS003", "descriptor.md, \"Digests\""),
    (Rule::Json, "IS004", "manifest.md, \"Image Manifest\""),
    (Rule::Descriptor, "IS005", "descriptor.md, \"Properties\""),
    (Rule::Annotations, "IS006", "annotations.md, \"Rules\""),
    (
        Rule::SchemaVersion,
        "IS007",
        "manifest.md, \"schemaVersion\"",
    ),
    (
        Rule::MediaType,
        "IS008",
        "media-types.md, \"Media Type Conflicts\"",
    ),
    (
        Rule::Manifest,
        "IS009",
        "manifest.md, \"Image Manifest Property Descriptions\"",
    ),
    (
        Rule::OneFormat,
        "IS010",
        "media-types.md, \"Compatibility Matrix\"",
    ),
    (
        Rule::Index,
        "IS011",
        "image-index.md, \"Image Index Property Descriptions\"",
    ),
    (Rule::Platform, "IS012", "image-index.md, \"platform\""),
    (Rule::Config, "IS013", "config.md, \"Properties\""),
    (Rule::Time, "IS014", "config.md, \"created\""),
    (Rule::RootFsType, "IS015", "config.md, \"rootfs\""),
    (Rule::DiffIdCount, "IS016", "config.md, \"rootfs\""),
    (Rule::HistoryCount, "IS017", "config.md, \"history\""),
    (Rule::LayerCodec, "IS018", "layer.md, \"gzip Media Types\""),
    (Rule::DiffId, "IS019", "config.md, \"Layer DiffID\""),
    (Rule::Tar, "IS020", "layer.md, \"Change Types\""),
    (
        Rule::EntryName,
        "IS021",
        "layer.md, \"Populate a Comparison Filesystem\"",
    ),
    (
        Rule::EntryTwice,
        "IS022",
        "layer.md, \"Representing Changes\"",
    ),
    (Rule::EntryKind, "IS023", "layer.md, \"File Types\""),
    (
        Rule::EntryOrder,
        "IS024",
        "layer.md, \"Representing Changes\"",
    ),
    (Rule::HardLink, "IS025", "layer.md, \"Hardlinks\""),
    (Rule::Whiteout, "IS026", "layer.md, \"Whiteouts\""),
];

impl Rule {
    /// All rules, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Rule> {
        RULES.into_iter().map(|(rule, ..)| rule)
    }

    /// The code, such as `IS003`. It never changes its meaning.
    pub fn code(self) -> &'static str {
        RULES[self as usize].1
    }

    /// Where the OCI image spec has the rule.
    pub fn section(self) -> &'static str {
        RULES[self as usize].2
    }
}

/// A rule that an image breaks, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The document, blob or entry that breaks it.
    pub place: String,
    /// How.
    pub problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation {
            rule,
            place,
            problem,
        } = self;
        write!(
            f,
            "{}: {place}: {problem} ({})",
            rule.code(),
            rule.section()
        )
    }
}

/// So many violations are listed; who breaks more has made his point.
const MOST: usize = 1000;

/// The violations found so far.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    pub(crate) fn add(&mut self, rule: Rule, place: &str, problem: impl Into<String>) {
        let violation = Violation {
            rule,
            place: place.to_owned(),
            problem: problem.into(),
        };
        if self.0.len() < MOST && !self.0.contains(&violation) {
            self.0.push(violation);
        }
    }

    /// Adds a violation unless `holds`.
    pub(crate) fn must(
        &mut self,
        holds: bool,
        rule: Rule,
        place: &str,
        problem: impl FnOnce() -> String,
    ) {
        if !holds {
            self.add(rule, place, problem());
        }
    }

    pub(crate) fn finish(self) -> Vec<Violation> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (position, (rule, code, _)) in RULES.into_iter().enumerate() {
            assert_eq!(rule as usize, position);
            assert_eq!(code, format!("IS{:03}", position + 1));
            assert_eq!(rule.code(), code);
        }
    }
}
