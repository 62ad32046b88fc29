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
    /// The error of the first stage that failed.
    failed: Option<BuildError>,
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
    let work = |who| work(workshop, who, &done, &board, &changed);
    std::thread::scope(|scope| {
        for _ in 1..workshop.contexts.crew.jobs().min(stages.len()) {
            scope.spawn(|| work(Who::Helper));
        }
        work(Who::Seated);
    });
    let board = board
        .into_inner()
        .expect("no thread panics while it holds the board");
    match board.failed {
        Some(error) => Err(error),
        None => Ok(Arc::clone(done.stage(workshop.plan.target))),
    }
}

/// Whose thread it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The build's own, which is counted already.
    Seated,
    /// One that is only counted while it evaluates a stage. If there is none to spare, the others
    /// will come to that stage.
    Helper,
}

/// Takes stages whose needs are met, until there are none or one has failed. Then the commands of
/// the others are stopped, too: nobody will see their results.
fn work(workshop: &Workshop<'_>, who: Who, done: &Done, board: &Mutex<Board>, changed: &Condvar) {
    let crew = workshop.contexts.crew;
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
        let hands = next.map(|_| crew.helpers(usize::from(who == Who::Helper)));
        let hands = hands.filter(|hands| who == Who::Seated || hands.count() > 0);
        let (Some(place), Some(hands)) = (next, hands) else {
            held = changed
                .wait(held)
                .expect("no thread panics while it holds the board");
            continue;
        };
        held.begun[place] = true;
        drop(held);
        let evaluated = workshop.stage(place, &stages[place], done);
        drop(hands);
        held = lock();
        match evaluated {
            Ok(evaluated) => drop(done.0[place].set(Arc::new(evaluated))),
            Err(error) => {
                // What fails after the first may have failed because it was stopped.
                held.failed.get_or_insert(error);
                workshop.stop.pull();
            }
        }
        changed.notify_all();
    }
}
