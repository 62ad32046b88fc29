//! `budget:`, what an image may cost.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::spec::budget::Budget;
use crate::spec::decode::Decoder;
use crate::spec::decode::fields::Fields;
use crate::spec::decode::shapes::Shape;
use crate::spec::error::ValueError;
use crate::spec::source::Spanned;
use crate::spec::units::parse_duration;

pub(crate) const BUDGET: Shape = Shape {
    what: "a budget",
    keys: &[
        "size",
        "unpacked",
        "layers",
        "context",
        "cold_build",
        "warm_build",
        "start",
        "health",
        "read_only",
    ],
    habits: &[
        ("cold", "the build without a store is called `cold_build`"),
        ("build", "write `cold_build`, `warm_build` or both"),
        ("build_time", "write `cold_build`, `warm_build` or both"),
        ("warm", "the build again is called `warm_build`"),
        (
            "image_size",
            "the size of the layers in a registry is called `size`",
        ),
        ("max_size", "the most that layers may take is called `size`"),
        (
            "uncompressed",
            "the size of the layers on a disk is called `unpacked`",
        ),
        (
            "startup",
            "the time until the process runs is called `start`",
        ),
        (
            "healthcheck",
            "the time until the first good answer is called `health`",
        ),
        ("readonly", "write `read_only: true`"),
    ],
};

impl Decoder<'_> {
    /// The budget; absent means that nothing is judged.
    pub(crate) fn budget(&mut self, fields: &Fields<'_>) -> Budget {
        let help = "write `budget: {size: 200MB, cold_build: 5m}`";
        let Some(fields) = fields
            .value("budget")
            .and_then(|node| self.fields(node, &BUDGET, help))
        else {
            return Budget::default();
        };
        Budget {
            size: self.optional(&fields, "size"),
            unpacked: self.optional(&fields, "unpacked"),
            layers: self.most_layers(&fields),
            context: self.optional(&fields, "context"),
            cold_build: self.longest(&fields, "cold_build"),
            warm_build: self.longest(&fields, "warm_build"),
            start: self.longest(&fields, "start"),
            health: self.longest(&fields, "health"),
            read_only: self.flag(&fields, "read_only").unwrap_or_default(),
        }
    }

    /// A duration; nothing keeps a budget of zero, but that is for whoever writes it to see.
    fn longest(&mut self, fields: &Fields<'_>, key: &str) -> Option<Spanned<Duration>> {
        self.converted(fields.value(key)?, key, parse_duration)
    }

    fn most_layers(&mut self, fields: &Fields<'_>) -> Option<Spanned<NonZeroU32>> {
        self.converted(fields.value("layers")?, "layers", |text| {
            text.parse().map_err(|_| {
                ValueError::new(format!("{text:?} is no number of layers"))
                    .help("write a whole number from 1 on")
            })
        })
    }
}
