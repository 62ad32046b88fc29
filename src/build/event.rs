//! Events: what a build tells while it runs.
//!
//! Events say what happened, never when: the library knows no clock. The porch stamps them, and
//! finds durations from the pairs (a step started, the same step finished). Stages run in
//! parallel, so events of several stages interleave; those of one stage come in order.
//!
//! The JSON form (`--progress json`) is one object per event with the field `event`. Fields may
//! be added to it; none is renamed.

use std::path::Path;

use serde::Serialize;

use crate::build::report::{Origin, as_lossy_text};
use crate::oci::Digest;
use crate::transport::registry::Delivery;

/// Who listens to a build. Events come from several threads at once.
pub trait Observer: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Listens to nothing: for tests and embedding programs that only want the report.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// One thing that happened. All sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event<'a> {
    /// The spec is read and everything is decided.
    Planned {
        /// Stages that the target needs, itself among them.
        stages: usize,
        /// Steps in these stages.
        steps: usize,
    },
    /// Everything is built a second time, elsewhere, to see whether the same comes out.
    BuiltOnceMore,
    /// A context was walked.
    ContextWalked {
        /// `context`, or the name of a named one.
        name: &'a str,
        /// Where it is; an affair of this machine.
        #[serde(skip)]
        directory: &'a Path,
        /// Regular files that a step may copy.
        files: u64,
        /// Their sizes together.
        bytes: u64,
        /// Entries that the ignore file excludes; what is in an excluded directory is not counted.
        excluded: u64,
    },
    /// Layers of a base image come from a registry.
    BaseFetched {
        /// The image as the spec names it.
        reference: &'a str,
        /// Bytes that have come so far.
        done: u64,
        /// Bytes of the layers that were not in the store, together.
        total: u64,
    },
    /// A base image was read and its layers are in the store.
    BaseImported {
        /// The image as the spec names it.
        reference: &'a str,
        /// Number of its layers.
        layers: usize,
        /// Their compressed sizes together.
        bytes: u64,
    },
    /// The first step of a stage is about to begin.
    StageStarted {
        /// The stage.
        stage: &'a str,
        /// Number of its steps.
        steps: usize,
    },
    /// A step begins.
    StepStarted {
        /// The stage.
        stage: &'a str,
        /// Number of the step in its stage, from 1.
        step: usize,
        /// The step in one short line, such as `copy dist → /app`.
        title: &'a str,
    },
    /// A step waits, because another build runs the very same command.
    StepWaits {
        /// The stage.
        stage: &'a str,
        /// Number of the step in its stage, from 1.
        step: usize,
    },
    /// The way in which commands are run was found.
    Sandbox {
        /// The tier: its letter and what it is.
        tier: &'a str,
    },
    /// A command printed a line.
    StepOutput {
        /// The stage.
        stage: &'a str,
        /// Number of the step in its stage, from 1.
        step: usize,
        /// `out` or `err`.
        stream: &'a str,
        /// The line, without its end; what is no text is replaced.
        text: &'a str,
    },
    /// A step has a changeset.
    StepFinished {
        /// The stage.
        stage: &'a str,
        /// Number of the step in its stage, from 1.
        step: usize,
        /// The step in one short line, as when it started.
        title: &'a str,
        /// Whether it had to be done.
        origin: Origin,
        /// Number of changes.
        entries: u64,
        /// Sizes of the files it puts, together.
        bytes: u64,
    },
    /// A layer of the image is about to be written.
    LayerStarted {
        /// Number of the layer in the image, from 0; ties the three events of a layer together.
        layer: usize,
        /// The stage it belongs to.
        stage: &'a str,
        /// What makes it, in one short line.
        title: &'a str,
        /// Number of changes.
        entries: u64,
        /// Sizes of its files together: what [`Event::LayerProgress`] counts up to.
        bytes: u64,
    },
    /// A layer is being written.
    LayerProgress {
        /// The layer.
        layer: usize,
        /// Bytes of files read so far.
        done: u64,
    },
    /// A layer is in the store. Layers that need no work come without the two events before.
    LayerFinished {
        /// Number of the layer in the image, from 0.
        layer: usize,
        /// What makes it, in one short line.
        title: &'a str,
        /// Digest of the blob.
        digest: Digest,
        /// Size of the blob.
        size: u64,
        /// Size of the tar stream in it.
        uncompressed: u64,
        /// Where it comes from.
        origin: Origin,
    },
    /// An output is complete under its final name.
    OutputWritten {
        /// The output as it was asked for, such as `oci-archive:app.tar`.
        name: &'a str,
        /// The file or directory. In JSON, bytes that are no text are replaced.
        #[serde(serialize_with = "as_lossy_text")]
        path: &'a Path,
        /// Its size: the whole file, or the blobs that a layout did not have yet.
        bytes: u64,
        /// Whether it had to be written.
        state: OutputState,
    },
    /// Blobs go to a registry.
    PushProgress {
        /// Registry and repository.
        name: &'a str,
        /// Bytes that have arrived so far.
        done: u64,
        /// Bytes of the blobs that were not there, together.
        total: u64,
    },
    /// A blob is in its repository.
    BlobPushed {
        /// Registry and repository.
        name: &'a str,
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// How it came there.
        delivery: Delivery,
        /// How many of its bytes were sent.
        sent: u64,
    },
    /// An image can be pulled under a name. The counts are those of its repository, all names
    /// together.
    ImagePushed {
        /// The full name.
        name: &'a str,
        /// Digest of the manifest or index.
        digest: Digest,
        /// Bytes on the wire from us.
        sent: u64,
        /// Bytes on the wire to us.
        received: u64,
        /// Whether anything was not there before.
        state: OutputState,
    },
    /// A cache for other machines is where they find it.
    CacheShared {
        /// The full name.
        name: &'a str,
        /// How many results it has.
        records: usize,
        /// Bytes on the wire from us.
        sent: u64,
    },
    /// Something worth knowing that changes nothing, such as a skipped socket.
    Note {
        /// One line.
        text: &'a str,
    },
    /// Something that works, but probably not as meant.
    Warning {
        /// One line.
        text: &'a str,
    },
}

/// Whether an output had to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputState {
    /// It was written.
    Written,
    /// It held this very image already.
    Unchanged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_one_flat_object() {
        let events = [
            Event::Planned {
                stages: 1,
                steps: 2,
            },
            Event::LayerFinished {
                layer: 0,
                title: "copy dist → /app",
                digest: Digest::of(b""),
                size: 1,
                uncompressed: 2,
                origin: Origin::Cached,
            },
            Event::OutputWritten {
                name: "oci:out",
                path: Path::new("out"),
                bytes: 3,
                state: OutputState::Unchanged,
            },
        ];
        let lines: Vec<String> = events
            .iter()
            .map(|event| serde_json::to_string(event).unwrap())
            .collect();
        assert_eq!(
            lines,
            [
                r#"{"event":"planned","stages":1,"steps":2}"#,
                r#"{"event":"layer_finished","layer":0,"title":"copy dist → /app","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1,"uncompressed":2,"origin":"cached"}"#,
                r#"{"event":"output_written","name":"oci:out","path":"out","bytes":3,"state":"unchanged"}"#,
            ]
        );
    }
}
