//! A plan as people read it (`--dry-run`).

use std::fmt;

use crate::plan::graph::Plan;
use crate::plan::stage::{PlannedStage, StageBase};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        let image = if names.is_empty() {
            "(no name)".to_owned()
        } else {
            names.join(", ")
        };
        writeln!(f, "image {image} for {}", self.platform)?;
        for stage in &self.stages {
            writeln!(f)?;
            self.stage_lines(stage, f)?;
        }
        let contexts = self
            .contexts
            .iter()
            .filter(|context| !context.wanted.is_empty());
        for (place, context) in contexts.enumerate() {
            if place == 0 {
                writeln!(f)?;
            }
            let wanted: Vec<String> = context.wanted.iter().map(ToString::to_string).collect();
            writeln!(
                f,
                "context {} = {}: {}",
                context.name,
                context.directory.display(),
                wanted.join(" ")
            )?;
        }
        match self.pruned.is_empty() {
            true => Ok(()),
            false => writeln!(f, "\nnot needed: {}", self.pruned.join(", ")),
        }
    }
}

impl Plan {
    fn stage_lines(&self, stage: &PlannedStage, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = match stage.base {
            StageBase::Scratch => "scratch".to_owned(),
            StageBase::Stage(id) => format!("stage {}", self.stage(id).name()),
            StageBase::Image(id) => self.images[id.0].to_string(),
        };
        let is_target = std::ptr::eq(stage, self.target_stage());
        writeln!(
            f,
            "stage {} from {base}{}",
            stage.name(),
            if is_target { " (the image)" } else { "" }
        )?;
        let mut layer = 0;
        let mut number = || {
            layer += 1;
            // Only what becomes part of the image is ever a layer.
            if is_target {
                format!("{layer:>3}. ")
            } else {
                "   - ".to_owned()
            }
        };
        if let Some(title) = stage.setup_title() {
            writeln!(f, "{}{title}", number())?;
        }
        for layer in &stage.layers {
            writeln!(f, "{}{}", number(), layer.title)?;
            if layer.steps.len() > 1
                || layer
                    .steps
                    .first()
                    .is_some_and(|step| step.title != layer.title)
            {
                layer
                    .steps
                    .iter()
                    .try_for_each(|step| writeln!(f, "       {}", step.title))?;
            }
        }
        Ok(())
    }
}
