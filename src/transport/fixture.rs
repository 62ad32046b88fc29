//! Images for the tests of this room, their blobs in memory.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Mutex;

use crate::image::{
    ConfigInputs, Image, ImageLayer, ImageSet, NewLayer, assemble, config as image_config,
};
use crate::oci::{
    BlobReader, BlobSink, BlobSource, Codec, Descriptor, DiffId, Digest, DocumentFormat,
    VerifyingReader,
};
use crate::spec::Config;

/// A store in memory.
#[derive(Debug, Default)]
pub(crate) struct Blobs(pub(crate) Mutex<BTreeMap<Digest, Vec<u8>>>);

impl Blobs {
    pub(crate) fn add(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.0.lock().unwrap().insert(digest, bytes.to_vec());
        digest
    }

    pub(crate) fn digests(&self) -> Vec<Digest> {
        self.0.lock().unwrap().keys().copied().collect()
    }
}

impl BlobSource for Blobs {
    fn open(&self, digest: &Digest) -> io::Result<Option<BlobReader>> {
        self.0.lock().unwrap().open(digest)
    }
}

impl BlobSink for Blobs {
    fn has(&self, digest: &Digest, size: u64) -> io::Result<bool> {
        Ok(self
            .0
            .lock()
            .unwrap()
            .get(digest)
            .is_some_and(|blob| blob.len() as u64 == size))
    }

    fn put(&self, digest: &Digest, size: u64, bytes: &mut dyn Read) -> io::Result<()> {
        let descriptor = Descriptor::new("x/y".into(), *digest, size);
        let mut blob = Vec::new();
        VerifyingReader::new(bytes, &descriptor).read_to_end(&mut blob)?;
        self.0.lock().unwrap().insert(*digest, blob);
        Ok(())
    }
}

/// A layer with one file.
pub(crate) fn layer(blobs: &Blobs, content: &str, codec: Codec) -> ImageLayer {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", content.as_bytes())
        .unwrap();
    let tar = tar.into_inner().unwrap();
    let stored = match codec {
        Codec::None => tar.clone(),
        Codec::Zstd => zstd::encode_all(&tar[..], 1).unwrap(),
        Codec::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&tar).unwrap();
            gzip.finish().unwrap()
        }
    };
    let digest = blobs.add(&stored);
    ImageLayer::new(digest, stored.len() as u64, codec, DiffId(Digest::of(&tar)))
}

/// An image of these layers.
pub(crate) fn image_of(layers: &[ImageLayer], platform: &str, format: DocumentFormat) -> Image {
    let new: Vec<_> = layers
        .iter()
        .map(|layer| NewLayer {
            diff_id: layer.diff_id,
            title: "test",
        })
        .collect();
    let platform = platform.parse().unwrap();
    let inputs = ConfigInputs {
        base: None,
        settings: &Config::default(),
        workdir: None,
        user: Some("1001"),
        layers: &new,
        epoch: 0,
        platform: &platform,
    };
    let config = image_config(&inputs).unwrap().config;
    assemble(&config, layers, format, &BTreeMap::new()).unwrap()
}

/// One image with a gzip layer, a plain one, and the first once more.
pub(crate) fn image(content: &str, format: DocumentFormat) -> (ImageSet, Blobs) {
    let blobs = Blobs::default();
    let first = layer(&blobs, content, Codec::Gzip);
    let layers = [first.clone(), layer(&blobs, "second", Codec::None), first];
    (
        ImageSet::new(vec![image_of(&layers, "linux/amd64", format)]).unwrap(),
        blobs,
    )
}

/// Images for two platforms that share a layer.
pub(crate) fn two_platforms() -> (ImageSet, Blobs) {
    let blobs = Blobs::default();
    let shared = layer(&blobs, "shared", Codec::Gzip);
    let images = ["linux/amd64", "linux/arm64"].map(|platform| {
        let own = layer(&blobs, platform, Codec::Zstd);
        image_of(&[shared.clone(), own], platform, DocumentFormat::Oci)
    });
    (ImageSet::new(images.to_vec()).unwrap(), blobs)
}
