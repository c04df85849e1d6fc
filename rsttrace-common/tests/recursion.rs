//! A model of the programs of a tracepoint on one CPU and of what interrupts them: each invocation is handled once, or the
//! kernel counts that it ran none of the programs for it.

use std::collections::VecDeque;

use proptest::prelude::*;
use rsttrace_common::recursion::{Claims, Invocation};

/// Next event on the CPU.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The current caller goes on to the next step of its program.
    Continue,
    /// A soft interrupt comes: no task gets the CPU before it has ended.
    Interrupt,
    /// Another task gets the CPU (7.0 and later): a new one, or one that was preempted.
    Preempt { new: bool },
}

fn steps(preempts: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Continue),
        2 => Just(Step::Interrupt),
        if preempts { 2 } else { 0 } => any::<bool>().prop_map(|new| Step::Preempt { new }),
    ];
    prop::collection::vec(step, 1..400)
}

/// Progress of an invocation through the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Before this program.
    Before(usize),
    /// Within this program.
    Working(usize),
}

/// Task or interrupt within the tracepoint.
#[derive(Clone, Debug)]
struct Caller {
    invocation: Invocation,
    /// Number of the invocation since the start.
    number: usize,
    progress: Progress,
}

struct Cpu {
    /// The primary program and its backups.
    programs: usize,
    claims: Claims,
    /// `prog->active`.
    active: Vec<bool>,
    /// `recursion_misses` of the primary.
    recursion_misses: u64,
    /// The task that has the CPU, and the soft interrupts that have interrupted it.
    current: Vec<Caller>,
    /// Preempted tasks, each within a program.
    preempted: VecDeque<Caller>,
    /// Number of times that each invocation was handled.
    handled: Vec<u32>,
}

impl Cpu {
    fn new(programs: usize) -> Self {
        Self {
            programs,
            claims: Claims::EMPTY,
            active: vec![false; programs],
            recursion_misses: 0,
            current: Vec::new(),
            preempted: VecDeque::new(),
            handled: Vec::new(),
        }
    }

    /// Begins an invocation. Stacks are reused as soon as they are free.
    fn enter(&mut self) {
        let is_free =
            |frame: &u64| self.current.iter().chain(&self.preempted).all(|caller| caller.invocation.frame != *frame);
        // There is one stack more than callers, so one of them is free.
        let mut stacks = 1..=(self.current.len() + self.preempted.len() + 1) as u64;
        let Some(frame) = stacks.find(is_free) else { return };
        let number = self.handled.len();
        self.handled.push(0);
        let invocation = Invocation { frame, args: [number as u64, 0] };
        self.current.push(Caller { invocation, number, progress: Progress::Before(0) });
    }

    /// Advances the current invocation by one step; between two steps it may be interrupted.
    fn advance(&mut self) {
        let Some(caller) = self.current.last_mut() else { return };
        let (invocation, last) = (caller.invocation, self.programs - 1);
        match caller.progress {
            Progress::Before(program) if program == self.programs => drop(self.current.pop()),
            Progress::Before(program) if self.active[program] => {
                self.recursion_misses += u64::from(program == 0);
                caller.progress = Progress::Before(program + 1);
            }
            Progress::Before(program) => {
                let is_handled = match program {
                    0 => false,
                    _ if program == last => self.claims.release(invocation),
                    _ => self.claims.is_claimed(invocation),
                };
                if is_handled {
                    caller.progress = Progress::Before(program + 1);
                    return;
                }
                self.claims.handled_by_backup += u64::from(program > 0);
                if program != last {
                    self.claims.claim(invocation);
                }
                self.active[program] = true;
                self.handled[caller.number] += 1;
                caller.progress = Progress::Working(program);
            }
            Progress::Working(program) => {
                self.active[program] = false;
                caller.progress = Progress::Before(program + 1);
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Continue if self.current.is_empty() => self.enter(),
            Step::Continue => self.advance(),
            Step::Interrupt if (1..3).contains(&self.current.len()) => self.enter(),
            Step::Interrupt => {}
            // Soft interrupts end first. A task is hardly ever preempted between two programs, and never in this model:
            // there is room for the claims of only a few such tasks.
            Step::Preempt { new } => {
                if let [task] = &self.current[..]
                    && matches!(task.progress, Progress::Working(_))
                {
                    self.preempted.push_back(task.clone());
                    self.current.clear();
                    match self.preempted.pop_front() {
                        Some(task) if !new => self.current.push(task),
                        Some(task) => {
                            self.preempted.push_front(task);
                            self.enter();
                        }
                        None => self.enter(),
                    }
                }
            }
        }
    }

    /// Runs every caller to its end.
    fn finish(&mut self) {
        loop {
            while !self.current.is_empty() {
                self.advance();
            }
            match self.preempted.pop_front() {
                Some(task) => self.current.push(task),
                None => return,
            }
        }
    }

    /// Checks that no invocation was handled twice, and that the kernel has counted those that were not handled.
    fn check(&self) {
        assert!(self.handled.iter().all(|times| *times <= 1), "handled twice: {:?}", self.handled);
        let missed = self.handled.iter().filter(|times| **times == 0).count() as u64;
        assert_eq!(missed, self.recursion_misses - self.claims.handled_by_backup);
    }
}

fn run(programs: usize, steps: &[Step]) -> Cpu {
    let mut cpu = Cpu::new(programs);
    for step in steps {
        cpu.take(*step);
    }
    cpu.finish();
    cpu
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// The kernel before 7.0: one backup, and only soft interrupts.
    #[test]
    fn backups_handle_soft_interrupts(steps in steps(false)) {
        run(2, &steps).check();
    }

    /// The kernel from 7.0 on: tasks are preempted within a program, and resumed in any order.
    #[test]
    fn backups_handle_preemption(steps in steps(true)) {
        run(3, &steps).check();
    }
}

/// Without recursion the primary handles every invocation, and no claim remains.
#[test]
fn primary_handles_all_without_recursion() {
    let cpu = run(3, &[Step::Continue; 100]);
    assert!(cpu.handled.len() > 10 && cpu.handled.iter().all(|times| *times == 1));
    assert_eq!((cpu.recursion_misses, cpu.claims.handled_by_backup), (0, 0));
    assert!(cpu.claims.in_flight.iter().all(|claim| claim.frame == 0));
}

/// The last backup was skipped and did not release the claim, which must not match the next invocation in that frame.
#[test]
fn stale_claim_does_not_match_the_next_invocation() {
    let mut claims = Claims::EMPTY;
    let invocation = |arg| Invocation { frame: 1, args: [arg, 0] };
    claims.claim(invocation(1));
    assert!(!claims.is_claimed(invocation(2)) && !claims.release(invocation(2)));
    claims.claim(invocation(2));
    assert!(!claims.is_claimed(invocation(1)) && claims.release(invocation(2)));
    // Without a free slot, later claims overwrite earlier ones in turn.
    for frame in 1..=9 {
        claims.claim(Invocation { frame, args: [0, 0] });
    }
    let remaining: Vec<u64> =
        (1..=9).filter(|frame| claims.is_claimed(Invocation { frame: *frame, args: [0, 0] })).collect();
    assert_eq!(remaining, [6, 7, 8, 9]);
}
