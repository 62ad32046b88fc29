//! The keys of the house: everything that a cached result depends on, field by field.
//!
//! What is left out is left out on purpose: no host, no path of the machine, no time, no number of
//! threads. Whoever adds an input to a computation adds it here. `design.md`, section 4.

use crate::oci::{DiffId, Digest};
use crate::store::KeyRecord;

/// A layer's blob.
///
/// - `changeset`: what the layer says; it covers every path, mode, owner, xattr and content.
/// - `encoder`: our own writing of tar and frames; another version may write other bytes.
/// - `compression`, codec and level, and `library`, the compressor with its version: either decides
///   the compressed bytes.
/// - `epoch`: every time in the layer, in seconds since 1970.
///
/// Left out on purpose: what lies below the layer (where it mattered, as with a parent that exists
/// or a name in `/etc/passwd`, it is in the changeset already), the stage and the image, so that
/// they share layers, and the frames that were at hand, which change the work and never the bytes.
pub fn layer(
    changeset: &Digest,
    encoder: u32,
    compression: &str,
    library: &str,
    epoch: u64,
) -> KeyRecord {
    KeyRecord::new("layer")
        .field("changeset", changeset)
        .field("encoder", encoder)
        .field("compression", compression)
        .field("library", library)
        .field("epoch", epoch)
}

/// What a layer of someone else holds.
///
/// - `blob`: the bytes that are read.
/// - `diff_id`: what the image says is in them; a blob that was accepted under one must not pass
///   under another.
/// - `reader`: our own understanding of foreign tars.
///
/// Left out on purpose: the image and the place that the layer came from, and its media type, which
/// is not believed; the bytes tell how they are compressed.
pub fn layer_index(blob: &Digest, diff_id: &DiffId, reader: u32) -> KeyRecord {
    KeyRecord::new("layer-index")
        .field("blob", blob)
        .field("diff_id", diff_id)
        .field("reader", reader)
}

/// An archive from elsewhere as an uncompressed tar.
///
/// - `archive`: the bytes that are read; they tell what kind of archive they are.
/// - `reader`: our own understanding of archives.
///
/// Left out on purpose: its URL and name.
pub fn archive(archive: &Digest, reader: u32) -> KeyRecord {
    KeyRecord::new("archive")
        .field("archive", archive)
        .field("reader", reader)
}

/// Work that one does at a time, on what has this digest. Nothing is recorded under it: it names
/// what is claimed where a record's own key cannot, because what is made is no record or is found
/// out by making it.
pub fn work(what: &str, on: &Digest) -> KeyRecord {
    KeyRecord::new("work").field("what", what).field("on", on)
}

/// The kind of the records under [`pulled`].
pub const PULLED: &str = "pulled";

/// What a reference to a registry was the last time, for builds that may not use the network.
///
/// - `reference`: in full, with its tag or digest.
/// - `platform`: an index leads to other blobs on another one.
///
/// Left out on purpose: mirrors and accounts; they decide how an image comes here, not which it is.
pub fn pulled(reference: &str, platform: &str) -> KeyRecord {
    KeyRecord::new(PULLED)
        .field("reference", reference)
        .field("platform", platform)
}

/// Which blobs a repository of a registry has for sure, because we pushed them: so that other
/// repositories there can have them without their bytes being sent again.
///
/// - `registry`: host and port.
/// - `repository`: below it.
///
/// Left out on purpose: the tag; blobs belong to repositories.
pub fn pushed(registry: &str, repository: &str) -> KeyRecord {
    KeyRecord::new("pushed")
        .field("registry", registry)
        .field("repository", repository)
}

/// An upload that has begun, so that a later process can go on with it.
///
/// - `registry` and `repository`: where to.
/// - `blob`: what.
///
/// Left out on purpose: the account; who may not go on begins anew.
pub fn upload(registry: &str, repository: &str, blob: &Digest) -> KeyRecord {
    KeyRecord::new("upload")
        .field("registry", registry)
        .field("repository", repository)
        .field("blob", blob)
}

/// The frames of a blob that we wrote. The blob decides them; how it came to be does not matter.
pub fn frame_table(blob: &Digest) -> KeyRecord {
    KeyRecord::new("frames").field("blob", blob)
}

/// The last layer that stood in a place of an image. It decides nothing but where frames are
/// looked for, so a wrong one costs time and no more. That is why the changeset is left out: the
/// layer that stood there before had another. The rest is as in [`layer`], because frames of
/// another compression are of no use.
pub fn layer_slot(
    slot: &[&str],
    encoder: u32,
    compression: &str,
    library: &str,
    epoch: u64,
) -> KeyRecord {
    KeyRecord::new("layer-slot")
        .field("slot", slot)
        .field("encoder", encoder)
        .field("compression", compression)
        .field("library", library)
        .field("epoch", epoch)
}

/// What a command makes of a tree.
///
/// - `runner`: our own environment of commands; another version may show them another one.
/// - `tree`: everything that the command finds, whatever made it: a step before it that comes to
///   the same tree changes nothing.
/// - `argv`, `env` (in order, as `NAME=VALUE`), `user` with its groups, `workdir`: the process.
/// - `network`: whether it had one.
/// - `mounts`: each in one line: a cache by its name, a secret by its ID, a bind by the digest of
///   its files, each with its place.
/// - `platform` and `epoch`.
///
/// Left out on purpose: the tier that ran it, what caches held, the bytes of secrets, proxies and
/// certificates of the machine, limits, and the time.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The version of the environment.
    pub runner: u32,
    /// Digest of the tree.
    pub tree: &'a Digest,
    /// Program and arguments.
    pub argv: &'a [&'a str],
    /// The environment.
    pub env: &'a [&'a str],
    /// Numbers of the user and its groups.
    pub user: &'a str,
    /// Where it runs.
    pub workdir: &'a str,
    /// `host` or `none`.
    pub network: &'a str,
    /// What is mounted.
    pub mounts: &'a [&'a str],
    /// What the image runs on.
    pub platform: &'a str,
    /// The time of everything, in seconds since 1970.
    pub epoch: u64,
}

impl Run<'_> {
    /// The key.
    pub fn key(&self) -> KeyRecord {
        KeyRecord::new("run")
            .field("runner", self.runner)
            .field("tree", self.tree)
            .field("argv", self.argv)
            .field("env", self.env)
            .field("user", self.user)
            .field("workdir", self.workdir)
            .field("network", self.network)
            .field("mounts", self.mounts)
            .field("platform", self.platform)
            .field("epoch", self.epoch)
    }
}

/// That a layer of this shape was written, whatever bytes its files had. It decides nothing but
/// whether files are read to find their digests before a layer is written or while it is.
pub fn layer_shape(shape: &Digest, encoder: u32) -> KeyRecord {
    KeyRecord::new("layer-shape")
        .field("shape", shape)
        .field("encoder", encoder)
}

/// What evaluating all stages of a plan comes to: the changesets of its layers and its config.
///
/// - `evaluator`: our own semantics of steps; another version may come to another result.
/// - `specs`, the exact texts, with `stages`, `profile`, `args`, `target`, `platform` and `epoch`: everything
///   that decides which steps there are and what is in the config. Which of equal texts a stage is
///   of matters, because its contexts lie beside it.
/// - `contexts`: the fingerprint of each directory that steps copy from, which covers names, modes,
///   sizes, identities and times of all files that the ignore rules leave in.
/// - `images`: manifest and config of each image that stages use.
/// - `files`: digests of the files of the web, which the text need not hold: a lock may.
/// - `given`: for each secret and agent that commands ask for, whether it was given at all, and
///   whether their network was cut: a command may do another thing without it.
/// - `runner`: as in [`Run`]; a remembered evaluation stands for its commands, too.
///
/// Left out on purpose: the bytes of secrets, where the spec and its contexts lie, how layers are compressed, the names
/// of the image and its outputs.
#[derive(Debug, Clone, Copy)]
pub struct Evaluation<'a> {
    /// Our own version.
    pub evaluator: &'a str,
    /// Digests of the texts of the spec and of those that it extends.
    pub specs: &'a [&'a str],
    /// `NUMBER NAME from BASE with STAGES` of every stage, in order: which of the texts it is of, what
    /// it starts from, and the stages that it needs.
    pub stages: &'a [&'a str],
    /// The profile that is in effect; empty without one, which no profile's name is.
    pub profile: &'a str,
    /// `NUMBER NAME=VALUE` of every argument of every text, in order.
    pub args: &'a [&'a str],
    /// The stage that becomes the image.
    pub target: &'a str,
    /// What the image runs on.
    pub platform: &'a str,
    /// The time of everything, in seconds since 1970.
    pub epoch: u64,
    /// `NAME=FINGERPRINT` of every context, in order.
    pub contexts: &'a [&'a str],
    /// Digests of every image, in order.
    pub images: &'a [&'a str],
    /// Digests of every file of the web, in order.
    pub files: &'a [&'a str],
    /// What commands ask for beside their files, and whether it is there, in order.
    pub given: &'a [&'a str],
    /// The version of the environment of commands.
    pub runner: u32,
}

impl Evaluation<'_> {
    /// The key.
    pub fn key(&self) -> KeyRecord {
        KeyRecord::new("evaluation")
            .field("evaluator", self.evaluator)
            .field("specs", self.specs)
            .field("stages", self.stages)
            .field("profile", self.profile)
            .field("args", self.args)
            .field("target", self.target)
            .field("platform", self.platform)
            .field("epoch", self.epoch)
            .field("contexts", self.contexts)
            .field("images", self.images)
            .field("files", self.files)
            .field("given", self.given)
            .field("runner", self.runner)
    }
}

/// That an output was found to hold what it should, by its times.
///
/// - `path`: where it lies.
/// - `content`: covers every byte that it should have.
///
/// The record holds what `stat` said of the file; another file in its place has other times.
pub fn output(path: &[u8], content: &Digest) -> KeyRecord {
    KeyRecord::new("output")
        .field("path", path)
        .field("content", content)
}

/// The chunks of a large content: its bytes, and how we cut. Its path and file are left out, so
/// that a file that was moved or copied is cut once.
pub fn chunks(content: &Digest, chunker: u32) -> KeyRecord {
    KeyRecord::new("chunks")
        .field("content", content)
        .field("chunker", chunker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The inputs of all keys, and every key made of them.
    #[derive(Debug, Clone, PartialEq)]
    struct Inputs {
        digest: [u8; 2],
        diff_id: [u8; 2],
        version: u32,
        compression: String,
        library: String,
        epoch: u64,
        slot: Vec<String>,
    }

    impl Inputs {
        /// Each key with the inputs that must count in it.
        fn keys(&self) -> [(KeyRecord, Vec<&'static str>); 7] {
            let digest = Digest::of(&self.digest);
            let diff_id = DiffId(Digest::of(&self.diff_id));
            let slot: Vec<&str> = self.slot.iter().map(String::as_str).collect();
            let (compression, library) = (self.compression.as_str(), self.library.as_str());
            let bytes = ["version", "compression", "library", "epoch"];
            [
                (
                    layer(&digest, self.version, compression, library, self.epoch),
                    [&bytes[..], &["digest"]].concat(),
                ),
                (
                    layer_slot(&slot, self.version, compression, library, self.epoch),
                    [&bytes[..], &["slot"]].concat(),
                ),
                (
                    layer_index(&digest, &diff_id, self.version),
                    vec!["digest", "diff_id", "version"],
                ),
                (archive(&digest, self.version), vec!["digest", "version"]),
                (frame_table(&digest), vec!["digest"]),
                (chunks(&digest, self.version), vec!["digest", "version"]),
                (
                    layer_shape(&digest, self.version),
                    vec!["digest", "version"],
                ),
            ]
        }

        /// The same with one input of `other`.
        fn with(&self, input: &str, other: &Inputs) -> Inputs {
            let mut mixed = self.clone();
            match input {
                "digest" => mixed.digest = other.digest,
                "diff_id" => mixed.diff_id = other.diff_id,
                "version" => mixed.version = other.version,
                "compression" => mixed.compression.clone_from(&other.compression),
                "library" => mixed.library.clone_from(&other.library),
                "epoch" => mixed.epoch = other.epoch,
                "slot" => mixed.slot.clone_from(&other.slot),
                _ => unreachable!("no input is called {input}"),
            }
            mixed
        }
    }

    fn inputs() -> impl Strategy<Value = Inputs> {
        let slot = proptest::collection::vec("[ab/]{0,2}", 0..3);
        (
            any::<[u8; 2]>(),
            any::<[u8; 2]>(),
            0..4u32,
            "[a-b:1]{0,3}",
            "[a-b:1]{0,3}",
            0..4u64,
            slot,
        )
            .prop_map(
                |(digest, diff_id, version, compression, library, epoch, slot)| Inputs {
                    digest,
                    diff_id,
                    version,
                    compression,
                    library,
                    epoch,
                    slot,
                },
            )
    }

    proptest! {
        /// One input changed changes the digest of each key it belongs to, and of no other.
        #[test]
        fn each_input_counts_where_it_should(one in inputs(), other in inputs()) {
            for input in ["digest", "diff_id", "version", "compression", "library", "epoch", "slot"] {
                let changed = one.with(input, &other);
                for ((before, counts), (after, _)) in one.keys().iter().zip(&changed.keys()) {
                    let is_other = changed != one && counts.contains(&input);
                    prop_assert_eq!(before.digest() != after.digest(), is_other, "{} in {:?}", input, before);
                }
            }
        }
    }

    #[test]
    fn every_input_counts() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let keys = [
            layer(&a, 1, "gzip:6", "lib", 0),
            layer(&b, 1, "gzip:6", "lib", 0),
            layer(&a, 2, "gzip:6", "lib", 0),
            layer(&a, 1, "gzip:7", "lib", 0),
            layer(&a, 1, "gzip:6", "lib 2", 0),
            layer(&a, 1, "gzip:6", "lib", 1),
            layer_index(&a, &DiffId(a), 1),
            layer_index(&a, &DiffId(b), 1),
            layer_index(&a, &DiffId(a), 2),
            frame_table(&a),
            layer_slot(&["a", "b"], 1, "gzip:6", "lib", 0),
            layer_slot(&["ab"], 1, "gzip:6", "lib", 0),
            chunks(&a, 1),
            chunks(&a, 2),
        ];
        let digests: std::collections::BTreeSet<Digest> =
            keys.iter().map(KeyRecord::digest).collect();
        assert_eq!(digests.len(), keys.len());
    }
}
