//! Advice: what some loader will not do with an image that is right. Each point was measured; the
//! versions stand in the text.

use crate::oci::{Codec, Descriptor, DocumentFormat, ImageConfig};

/// podman 4.3 mounts 128 layers and docker's overlay driver stops there, too.
const MOST_LAYERS: usize = 100;

/// Remarks for people about an image of this config and these layers, each one line.
pub fn loader_notes(
    config: &ImageConfig,
    layers: &[Descriptor],
    format: DocumentFormat,
) -> Vec<String> {
    let mut notes = Vec::new();
    let has_check = config
        .config
        .healthcheck
        .as_ref()
        .is_some_and(|check| check.test.first().is_some_and(|kind| kind != "NONE"));
    if has_check && format == DocumentFormat::Oci {
        notes.push("podman ignores the health check of an image in OCI format; docker does not. `--format docker` makes both honour it".to_owned());
    }
    if layers
        .iter()
        .any(|layer| layer.media_type.layer_codec() == Some(Codec::Zstd))
    {
        notes.push(
            "docker before version 23 cannot read zstd layers; `compression: gzip` is read by all"
                .to_owned(),
        );
    }
    if layers.len() > MOST_LAYERS {
        notes.push(format!(
            "the image has {} layers; docker and podman mount no more than 128. Group steps with `layer:`",
            layers.len()
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType};

    #[test]
    fn advice_is_given_where_it_helps() {
        let config = |healthcheck: serde_json::Value| -> ImageConfig {
            serde_json::from_value(serde_json::json!({
                "os": "linux", "architecture": "amd64", "config": {"Healthcheck": healthcheck},
                "rootfs": {"type": "layers", "diff_ids": []},
            }))
            .unwrap()
        };
        let probe = config(serde_json::json!({"Test": ["CMD", "true"]}));
        let none = config(serde_json::json!({"Test": ["NONE"]}));
        let layer = |codec| Descriptor::new(MediaType::OciLayer(codec), Digest::of(b""), 0);
        let (oci, docker) = (DocumentFormat::Oci, DocumentFormat::Docker);
        assert!(loader_notes(&probe, &[], oci)[0].contains("--format docker"));
        assert!(loader_notes(&probe, &[], docker).is_empty());
        assert!(loader_notes(&none, &[layer(Codec::Gzip)], oci).is_empty());
        assert!(loader_notes(&none, &[layer(Codec::Zstd)], oci)[0].contains("before version 23"));
        assert!(loader_notes(&none, &vec![layer(Codec::Gzip); 101], oci)[0].contains("101 layers"));
    }
}
