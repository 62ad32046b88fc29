//! A plan as people read it (`--dry-run`).

use std::fmt;

use crate::plan::making::Plan;
use crate::plan::stage::{
    PlannedContext, PlannedLayer, PlannedStage, PlannedStep, Source, StageBase,
};
use crate::plan::title::printable;
use crate::spec::ImageSource;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        let image = match names.is_empty() {
            true => "(no name)".to_owned(),
            false => names.join(", "),
        };
        write!(f, "image {image} for {}", self.platform)?;
        match &self.profile {
            Some(profile) => writeln!(f, ", profile {profile}")?,
            None => writeln!(f)?,
        }
        for stage in &self.stages {
            writeln!(f)?;
            self.stage_lines(stage, f)?;
        }
        self.context_lines(f)?;
        match self.pruned.is_empty() {
            true => Ok(()),
            false => writeln!(
                f,
                "\nnot needed by {}: {}",
                self.target_stage().name(),
                self.pruned.join(", ")
            ),
        }
    }
}

impl Plan {
    fn stage_lines(&self, stage: &PlannedStage, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = match stage.base {
            StageBase::Scratch => "scratch".to_owned(),
            StageBase::Stage(id) => format!("stage {}", self.stage(id).name()),
            StageBase::Image(id) => printable(&self.images[id.0].to_string()),
        };
        let is_target = std::ptr::eq(stage, self.target_stage());
        let role = if is_target { " (the image)" } else { "" };
        writeln!(f, "stage {} from {base}{role}", stage.name())?;
        let mut layers = 0;
        let mut bullet = || {
            layers += 1;
            // Only what becomes part of the image is ever a layer.
            match is_target {
                true => format!("{layers:>3}. "),
                false => "   - ".to_owned(),
            }
        };
        if let Some(title) = stage.setup_title() {
            writeln!(f, "{}{title}", bullet())?;
        }
        for layer in &stage.layers {
            match named_by_its_step(layer) {
                Some(step) => writeln!(f, "{}{}", bullet(), self.step_line(step))?,
                None => {
                    writeln!(f, "{}{}", bullet(), layer.title)?;
                    let mut steps = layer.steps.iter();
                    steps.try_for_each(|step| writeln!(f, "       {}", self.step_line(step)))?;
                }
            }
        }
        Ok(())
    }

    /// The title, and for an image of this machine where it lies, which a title must not say.
    fn step_line(&self, step: &PlannedStep) -> String {
        match step.source {
            Some(Source::Image(id)) if !matches!(self.images[id.0], ImageSource::Registry(_)) => {
                format!(
                    "{} ({})",
                    step.title,
                    printable(&self.images[id.0].to_string())
                )
            }
            _ => step.title.clone(),
        }
    }

    fn context_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = || self.contexts.iter().filter(|one| !one.wanted.is_empty());
        let label = |one: &PlannedContext| match one.is_main {
            true => "context".to_owned(),
            false => format!("context {}", one.name),
        };
        let labels = used().map(|one| label(one).chars().count());
        let label_width = labels.max().unwrap_or_default();
        let directory = |text: &std::path::Path| printable(&text.to_string_lossy());
        let widths = used().map(|one| directory(&one.directory).chars().count());
        let directory_width = widths.max().unwrap_or_default();
        for (place, context) in used().enumerate() {
            let wanted: Vec<String> = context
                .wanted
                .iter()
                .map(|path| printable(&path.to_string()))
                .collect();
            writeln!(
                f,
                "{}{:label_width$} from {:directory_width$} takes {}",
                if place == 0 { "\n" } else { "" },
                label(context),
                directory(&context.directory),
                wanted.join(" ")
            )?;
        }
        Ok(())
    }
}

/// The one step of a layer that has no name of its own.
fn named_by_its_step(layer: &PlannedLayer) -> Option<&PlannedStep> {
    match layer.steps.as_slice() {
        [step] if step.title == layer.title => Some(step),
        _ => None,
    }
}
