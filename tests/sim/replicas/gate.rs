//! A process that can be stopped and continued (SIGSTOP, SIGCONT): its clock goes on, its tasks do not.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use campos_operator::platform::{Answered, Page, PageRequest, Platform, Seen};
use campos_operator::reconcile::app::AppId;
use campos_operator::reconcile::outcome::{Failure, Receipt};
use campos_operator::reconcile::state::Action;

use crate::dice::Dice;

#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// The tasks that were to run meanwhile.
    held: Vec<Waker>,
}

impl Gate {
    pub(crate) fn stop(&self) {
        self.0.lock().unwrap().stopped = true;
    }

    /// The tasks go on in any order.
    pub(crate) fn resume(&self, dice: &mut Dice) {
        let mut held = {
            let mut state = self.0.lock().unwrap();
            state.stopped = false;
            std::mem::take(&mut state.held)
        };
        while !held.is_empty() {
            held.swap_remove(usize::try_from(dice.below(held.len() as u64)).unwrap()).wake();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.lock().unwrap().stopped
    }

    /// Runs `task` while the process is not stopped.
    pub(crate) async fn run<F: Future>(self, task: F) -> F::Output {
        let mut task = pin!(task);
        poll_fn(|context| {
            let mut state = self.0.lock().unwrap();
            if state.stopped {
                state.held.push(context.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            task.as_mut().poll(context)
        })
        .await
    }
}

/// A platform whose requests belong to a process: the operator starts a task for each, which stops with it.
#[derive(Debug)]
pub(crate) struct Gated<P> {
    pub(crate) gate: Gate,
    pub(crate) inner: P,
}

impl<P: Platform> Platform for Gated<P> {
    async fn list(&self, page: PageRequest) -> Result<Answered<Page>, Failure> {
        self.gate.clone().run(self.inner.list(page)).await
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        self.gate.clone().run(self.inner.get(id)).await
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        self.gate.clone().run(self.inner.act(action, id)).await
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        self.gate.clone().run(self.inner.whoami()).await
    }
}
