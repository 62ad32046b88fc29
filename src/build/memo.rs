//! What evaluating a plan came to, remembered: a build whose inputs have not changed evaluates
//! nothing, so it costs a walk of its contexts and little else.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::build::commands::RUNNER;
use crate::build::contexts::Context;
use crate::build::error::BuildError;
use crate::build::request::CommandSettings;
use crate::oci::{Digest, ImageConfig};
use crate::plan::Plan;
use crate::plan::key::Evaluation;
use crate::plan::{ImageId, PlannedStage, StageBase, StageId};
use crate::spec::{self, Action, Home, Mount, Name, Run};
use crate::store::{KeyRecord, Store};
use crate::transport::http::Network;

/// The version of everything that decides what steps make of their inputs.
const EVALUATOR: &str = concat!(env!("CARGO_PKG_VERSION"), "+3");

/// What evaluating comes to, as far as an image needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The layers on the base, lowest first.
    pub(crate) layers: Vec<OutcomeLayer>,
    /// The config but for these layers.
    pub(crate) config: ImageConfig,
    /// What should be told besides.
    pub(crate) notes: Vec<String>,
}

/// One layer of an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutcomeLayer {
    /// What makes it, in one line.
    pub(crate) title: String,
    /// Digest of its changeset.
    pub(crate) changeset: Digest,
}

/// The key of a plan's evaluation. `images` are the digests of the plan's images, `contexts` those
/// contexts that its steps copy from, each by its name; `commands` and `network` say what commands
/// are given.
pub(crate) fn key(
    plan: &Plan,
    epoch: u64,
    contexts: &[(&str, &Context)],
    images: &[Digest],
    commands: &CommandSettings,
    network: Network,
) -> KeyRecord {
    let files = Files::of(plan);
    let contexts: Vec<String> = contexts
        .iter()
        .map(|(name, context)| format!("{name}={}", context.fingerprint))
        .collect();
    let images: Vec<String> = images.iter().map(ToString::to_string).collect();
    let downloads = plan.files.iter().map(|file| file.digest.to_string());
    let downloads: Vec<String> = downloads.collect();
    Evaluation {
        evaluator: EVALUATOR,
        specs: &texts(&files.texts),
        stages: &texts(&files.stages),
        profile: plan.profile.as_ref().map_or("", Name::as_str),
        args: &texts(&files.args),
        target: plan.target_stage().name(),
        platform: &plan.platform.to_string(),
        epoch,
        contexts: &texts(&contexts),
        images: &texts(&images),
        files: &texts(&downloads),
        given: &texts(&given(plan, commands, network)),
        runner: RUNNER,
    }
    .key()
}

/// What the files of a spec say: each by its number, the spec itself being 0.
struct Files {
    texts: Vec<String>,
    args: Vec<String>,
    /// The file of each stage, and its name there.
    stages: Vec<String>,
}

impl Files {
    fn of(plan: &Plan) -> Files {
        let extended = plan.extended.iter().map(|file| (&*file.source, &file.args));
        let all = [(&*plan.source, &plan.args)].into_iter().chain(extended);
        let (mut texts, mut args) = (Vec::new(), Vec::new());
        for (number, (source, values)) in all.enumerate() {
            texts.push(Digest::of(source.text.as_bytes()).to_string());
            let lines = values.iter();
            args.extend(lines.map(|(name, value)| format!("{number} {name}={value}")));
        }
        let stages = plan.stages.iter().map(|planned| {
            let number = match planned.stage.home {
                Home::Own => 0,
                Home::Extended(place) => place + 1,
            };
            // Equal texts at two places have equal names in them: what a stage starts from and
            // takes from says which is meant.
            let base = match planned.base {
                StageBase::Scratch => "scratch".to_owned(),
                StageBase::Stage(StageId(place)) => format!("stage {place}"),
                StageBase::Image(ImageId(place)) => format!("image {place}"),
            };
            let others = planned.depends_on.iter().map(|id| id.0.to_string());
            let others = others.collect::<Vec<_>>().join(",");
            let name = planned.stage.name.as_str();
            format!("{number} {name} from {base} with {others}")
        });
        Files {
            texts,
            args,
            stages: stages.collect(),
        }
    }
}

/// What commands ask the caller for, and whether it is there: the contents stay out of every key.
fn given(plan: &Plan, commands: &CommandSettings, network: Network) -> Vec<String> {
    let steps = plan.stages.iter().flat_map(PlannedStage::steps);
    let runs = steps.filter_map(|step| match &step.step.action {
        Action::Run(run) => Some(run),
        _ => None,
    });
    let runs: Vec<&Run> = runs.collect();
    let wants_network = runs.iter().any(|run| run.network == spec::Network::Host);
    let offline = network == Network::Forbidden && wants_network;
    let mounts = runs.iter().flat_map(|run| &run.mounts);
    let asked: BTreeSet<String> = mounts
        .filter_map(|mount| match &mount.value {
            Mount::Secret { id, .. } => {
                let is_given = commands.secrets.contains_key(id.as_str());
                Some(format!("secret {} {is_given}", id.as_str()))
            }
            Mount::Ssh { id } => {
                let is_given = commands.agents.contains_key(id.as_str());
                Some(format!("ssh {} {is_given}", id.as_str()))
            }
            Mount::Cache { .. } | Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
        })
        .collect();
    let offline = offline.then(|| "no network".to_owned());
    asked.into_iter().chain(offline).collect()
}

fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// The outcome under `key`, if there is one.
pub(crate) fn recall(store: &Store, key: &KeyRecord) -> Result<Option<Outcome>, BuildError> {
    let value = store.record(key)?;
    Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
}

/// Keeps an outcome.
pub(crate) fn remember(
    store: &Store,
    key: &KeyRecord,
    outcome: &Outcome,
) -> Result<(), BuildError> {
    let value = serde_json::to_vec(outcome).expect("an outcome is plain data");
    Ok(store.put_record(key, &value)?)
}
