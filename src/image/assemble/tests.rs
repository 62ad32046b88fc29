//! Documents before an independent reader; what cannot be an image.

use super::*;
use crate::oci::{History, RootFs, RuntimeConfig};

fn config(platform: &str, layers: &[ImageLayer]) -> ImageConfig {
    ImageConfig {
        created: Some("1970-01-01T00:00:00Z".to_owned()),
        author: None,
        platform: platform.parse().unwrap(),
        config: RuntimeConfig {
            labels: [
                ("z".to_owned(), "1".to_owned()),
                ("a".to_owned(), "2".to_owned()),
            ]
            .into(),
            ..RuntimeConfig::default()
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
        },
        history: vec![History::default(); layers.len()],
        other: BTreeMap::new(),
    }
}

fn layer(content: &str, codec: Codec) -> ImageLayer {
    let digest = Digest::of(content.as_bytes());
    ImageLayer::new(digest, content.len() as u64, codec, DiffId(digest))
}

fn image(
    platform: &str,
    layers: &[ImageLayer],
    format: DocumentFormat,
) -> Result<Image, ImageError> {
    assemble(&config(platform, layers), layers, format, &BTreeMap::new())
}

#[test]
fn documents_are_read_by_an_independent_reader() {
    let layers = [
        layer("a", Codec::Gzip),
        layer("b", Codec::Zstd),
        layer("c", Codec::None),
    ];
    let annotations = [(
        "org.opencontainers.image.base.name".to_owned(),
        "x".to_owned(),
    )]
    .into();
    let config = config("linux/amd64", &layers);
    let image = assemble(&config, &layers, DocumentFormat::Oci, &annotations).unwrap();
    let manifest = oci_spec::image::ImageManifest::from_reader(image.manifest().bytes()).unwrap();
    let codecs: Vec<_> = manifest
        .layers()
        .iter()
        .map(|layer| layer.media_type().to_string())
        .collect();
    assert_eq!(
        codecs,
        ["gzip", "zstd", ""].map(|codec| match codec {
            "" => "application/vnd.oci.image.layer.v1.tar".to_owned(),
            codec => format!("application/vnd.oci.image.layer.v1.tar+{codec}"),
        })
    );
    assert_eq!(
        manifest.config().digest().to_string(),
        image.config().digest().to_string()
    );
    assert_eq!(manifest.annotations().as_ref().unwrap().len(), 1);
    let config = oci_spec::image::ImageConfiguration::from_reader(image.config().bytes()).unwrap();
    assert_eq!(config.rootfs().diff_ids().len(), 3);
    let set = ImageSet::new(vec![image.clone(), image_of_arm(&layers)]).unwrap();
    let index = oci_spec::image::ImageIndex::from_reader(set.documents()[0].bytes()).unwrap();
    assert_eq!(index.manifests().len(), 2);
    assert_eq!(set.documents().len(), 5);
    assert_eq!(set.layers().len(), 3);
}

fn image_of_arm(layers: &[ImageLayer]) -> Image {
    image("linux/arm64/v8", layers, DocumentFormat::Oci).unwrap()
}

#[test]
fn a_base_of_the_other_format_changes_its_media_types_and_nothing_else() {
    let mut base = layer("base", Codec::Gzip);
    base.descriptor
        .annotations
        .insert("containerd.io/x".to_owned(), "y".to_owned());
    for (from, to) in [
        (DocumentFormat::Docker, DocumentFormat::Oci),
        (DocumentFormat::Oci, DocumentFormat::Docker),
    ] {
        base.descriptor.media_type = from.layer(Codec::Gzip);
        let image = image("linux/amd64", std::slice::from_ref(&base), to).unwrap();
        let expected = Descriptor {
            media_type: to.layer(Codec::Gzip),
            ..base.descriptor.clone()
        };
        assert_eq!(image.layers(), [expected]);
        assert_eq!(image.manifest().media_type(), &to.manifest());
        assert_eq!(image.config().media_type(), &to.config());
    }
}

#[test]
fn what_cannot_be_an_image_is_refused() {
    let zstd = [layer("a", Codec::Zstd)];
    let refused = image("linux/amd64", &zstd, DocumentFormat::Docker).unwrap_err();
    assert_eq!(refused, ImageError::ZstdInDocker);
    assert!(refused.to_string().contains("--format oci"));
    let mut foreign = layer("a", Codec::Gzip);
    foreign.descriptor.media_type =
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    assert!(matches!(
        image("linux/amd64", &[foreign], DocumentFormat::Oci),
        Err(ImageError::LayerType(_))
    ));
    let other = config("linux/amd64", &[layer("other", Codec::Gzip)]);
    let wrong = assemble(&other, &zstd, DocumentFormat::Oci, &BTreeMap::new());
    assert!(matches!(wrong, Err(ImageError::DiffIds { .. })));
}

#[test]
fn a_set_has_one_image_per_platform_and_one_format() {
    assert_eq!(ImageSet::new(Vec::new()), Err(ImageError::NoImages));
    let oci = |platform| image(platform, &[], DocumentFormat::Oci).unwrap();
    let twice = ImageSet::new(vec![oci("linux/arm64"), oci("linux/arm64/v8")]);
    assert!(matches!(twice, Err(ImageError::PlatformTwice(_))));
    let docker = image("linux/arm64", &[], DocumentFormat::Docker).unwrap();
    assert_eq!(
        ImageSet::new(vec![oci("linux/amd64"), docker]),
        Err(ImageError::MixedFormats)
    );
    let one = ImageSet::new(vec![oci("linux/amd64")]).unwrap();
    assert_eq!(one.root().media_type, MediaType::OciManifest);
    assert!(one.for_platform(&"linux/x86_64".parse().unwrap()).is_some());
    assert!(one.for_platform(&"linux/arm64".parse().unwrap()).is_none());
}
