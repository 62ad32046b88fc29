//! History: one line per layer, in the words of whoever made it.
//!
//! OCI image spec, `config.md`, `history`. Lines that are not marked `empty_layer` stand for the
//! layers, in order. Docker refuses an image with more such lines than layers, buildah one with
//! fewer as soon as somebody builds on it; so a base whose lines do not add up is mended.

use crate::oci::History;

/// What the line says that stands for a base layer nobody wrote a line for.
const UNKNOWN: &str = "not recorded in the base image";

/// `history`, changed as little as possible so that exactly `layers` lines stand for a layer:
/// superfluous lines are marked empty from the last on, missing ones are added at the end.
pub(crate) fn mended(history: &[History], layers: usize) -> Vec<History> {
    let mut history = history.to_vec();
    let mut lines = history.iter().filter(|line| !line.empty_layer).count();
    for line in history.iter_mut().rev() {
        if lines > layers && !line.empty_layer {
            line.empty_layer = true;
            lines -= 1;
        }
    }
    for _ in lines..layers {
        history.push(History {
            created_by: Some(UNKNOWN.to_owned()),
            ..History::default()
        });
    }
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_many_as_layers() {
        let history = |text: &str| -> Vec<History> {
            text.chars()
                .map(|kind| History {
                    empty_layer: kind == 'e',
                    ..History::default()
                })
                .collect()
        };
        for (text, layers, mended_text) in [
            ("", 0, ""),
            ("", 2, "ll"),
            ("lel", 2, "lel"),
            ("lel", 3, "lell"),
            ("lel", 1, "lee"),
            ("lll", 0, "eee"),
            ("e", 0, "e"),
        ] {
            let mended: String = mended(&history(text), layers)
                .iter()
                .map(|line| if line.empty_layer { 'e' } else { 'l' })
                .collect();
            assert_eq!(mended, mended_text, "{text} for {layers} layers");
        }
    }
}
