//! The order of work: stages that do not need each other are evaluated side by side.

use std::sync::{Arc, Condvar, Mutex, OnceLock};

use crate::build::error::BuildError;
use crate::build::stages::{Evaluated, Workshop};
use crate::plan::{PlannedStage, StageId};

/// The stages that are done, by their places in the plan.
pub(crate) struct Done(Vec<OnceLock<Arc<Evaluated>>>);

impl Done {
    /// A stage that another one needs.
    pub(crate) fn stage(&self, StageId(place): StageId) -> &Arc<Evaluated> {
        self.0[place]
            .get()
            .expect("a stage begins when those that it needs are done")
    }

    fn has(&self, StageId(place): StageId) -> bool {
        self.0[place].get().is_some()
    }
}

/// What the threads must agree on.
#[derive(Default)]
struct Board {
    begun: Vec<bool>,
    running: usize,
    /// The error of the first stage in the plan that failed.
    failed: Option<(usize, BuildError)>,
}

/// Evaluates all stages of the workshop's plan; the target comes out.
pub(crate) fn evaluate(workshop: &Workshop<'_>) -> Result<Arc<Evaluated>, BuildError> {
    let stages = &workshop.plan.stages;
    let done = Done(stages.iter().map(|_| OnceLock::new()).collect());
    let board = Mutex::new(Board {
        begun: vec![false; stages.len()],
        ..Board::default()
    });
    let changed = Condvar::new();
    let work = || work(workshop, &done, &board, &changed);
    std::thread::scope(|scope| {
        for _ in 1..workshop.request.jobs.get().min(stages.len()) {
            scope.spawn(work);
        }
        work();
    });
    let board = board
        .into_inner()
        .expect("no thread panics while it holds the board");
    match board.failed {
        Some((_, error)) => Err(error),
        None => Ok(Arc::clone(done.stage(workshop.plan.target))),
    }
}

/// Takes stages whose needs are met, until there are none or one has failed.
fn work(workshop: &Workshop<'_>, done: &Done, board: &Mutex<Board>, changed: &Condvar) {
    let stages = &workshop.plan.stages;
    let lock = || {
        board
            .lock()
            .expect("no thread panics while it holds the board")
    };
    let is_ready = |stage: &PlannedStage| stage.depends_on.iter().all(|need| done.has(*need));
    let mut held = lock();
    loop {
        let is_over = held.failed.is_some() || held.begun.iter().all(|begun| *begun);
        if is_over {
            return;
        }
        let next = (0..stages.len()).find(|&place| !held.begun[place] && is_ready(&stages[place]));
        let Some(place) = next else {
            held = changed
                .wait(held)
                .expect("no thread panics while it holds the board");
            continue;
        };
        held.begun[place] = true;
        held.running += 1;
        drop(held);
        let evaluated = workshop.stage(place, &stages[place], done);
        held = lock();
        held.running -= 1;
        match evaluated {
            Ok(evaluated) => drop(done.0[place].set(Arc::new(evaluated))),
            Err(error) => {
                let is_first = |(first, _): &(usize, _)| place < *first;
                if held.failed.as_ref().is_none_or(is_first) {
                    held.failed = Some((place, error));
                }
            }
        }
        changed.notify_all();
    }
}
