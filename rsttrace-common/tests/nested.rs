//! The programs of a tracepoint on one CPU, and whatever comes in between: each run's work is done once, or the kernel counts
//! that none of the programs was run for it.

use std::collections::VecDeque;

use proptest::prelude::*;
use rsttrace_common::nested::{Run, Words};

/// What happens next on the CPU.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Whoever has the CPU goes on to the next step of its program.
    GoOn,
    /// A soft interrupt comes: nobody gets the CPU before it has ended.
    Interrupt,
    /// Another task gets the CPU (7.0 and later): a new one, or one of those that had lost it.
    Preempt { new: bool },
}

fn steps(preempts: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::GoOn),
        2 => Just(Step::Interrupt),
        if preempts { 2 } else { 0 } => any::<bool>().prop_map(|new| Step::Preempt { new }),
    ];
    prop::collection::vec(step, 1..400)
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before this program.
    Before(usize),
    /// In the middle of its work.
    Works(usize),
}

/// Somebody who is in the middle of the tracepoint.
#[derive(Clone, Debug)]
struct Caller {
    run: Run,
    /// Which of the runs ever.
    number: usize,
    place: Place,
}

struct Cpu {
    /// First program and those behind it.
    programs: usize,
    words: Words,
    /// `prog->active`.
    runs: Vec<bool>,
    /// `recursion_misses` of the first.
    left_out: u64,
    /// The task that has the CPU, and the soft interrupts upon it.
    current: Vec<Caller>,
    /// Other tasks, in the middle of a program.
    waiting: VecDeque<Caller>,
    /// How often each run's work was done.
    done: Vec<u32>,
}

impl Cpu {
    fn new(programs: usize) -> Self {
        Self {
            programs,
            words: Words::NONE,
            runs: vec![false; programs],
            left_out: 0,
            current: Vec::new(),
            waiting: VecDeque::new(),
            done: Vec::new(),
        }
    }

    /// A run begins. Stacks come again as soon as they are free.
    fn enter(&mut self) {
        let is_free = |frame: &u64| self.current.iter().chain(&self.waiting).all(|caller| caller.run.frame != *frame);
        // One more than there are callers: one of them is free.
        let mut stacks = 1..=(self.current.len() + self.waiting.len() + 1) as u64;
        let Some(frame) = stacks.find(is_free) else { return };
        let number = self.done.len();
        self.done.push(0);
        let arguments = [number as u64, 0];
        self.current.push(Caller { run: Run { frame, arguments }, number, place: Place::Before(0) });
    }

    /// The current run goes one step on; between two of them anything may happen.
    fn go_on(&mut self) {
        let Some(caller) = self.current.last_mut() else { return };
        let (run, last) = (caller.run, self.programs - 1);
        match caller.place {
            Place::Before(program) if program == self.programs => drop(self.current.pop()),
            Place::Before(program) if self.runs[program] => {
                self.left_out += u64::from(program == 0);
                caller.place = Place::Before(program + 1);
            }
            Place::Before(program) => {
                let is_done = match program {
                    0 => false,
                    _ if program == last => self.words.take(run),
                    _ => self.words.have(run),
                };
                if is_done {
                    caller.place = Place::Before(program + 1);
                    return;
                }
                self.words.done_behind += u64::from(program > 0);
                if program != last {
                    self.words.leave(run);
                }
                self.runs[program] = true;
                self.done[caller.number] += 1;
                caller.place = Place::Works(program);
            }
            Place::Works(program) => {
                self.runs[program] = false;
                caller.place = Place::Before(program + 1);
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::GoOn if self.current.is_empty() => self.enter(),
            Step::GoOn => self.go_on(),
            Step::Interrupt if (1..3).contains(&self.current.len()) => self.enter(),
            Step::Interrupt => {}
            // Soft interrupts end first. Between two programs a task is hardly ever preempted, and is not here: for a word
            // there is room for some of those only.
            Step::Preempt { new } => {
                if let [task] = &self.current[..]
                    && matches!(task.place, Place::Works(_))
                {
                    self.waiting.push_back(task.clone());
                    self.current.clear();
                    match self.waiting.pop_front() {
                        Some(task) if !new => self.current.push(task),
                        Some(task) => {
                            self.waiting.push_front(task);
                            self.enter();
                        }
                        None => self.enter(),
                    }
                }
            }
        }
    }

    /// Everybody comes to an end.
    fn finish(&mut self) {
        loop {
            while !self.current.is_empty() {
                self.go_on();
            }
            match self.waiting.pop_front() {
                Some(task) => self.current.push(task),
                None => return,
            }
        }
    }

    /// Nothing was done twice, and what was not done the kernel has counted.
    fn check(&self) {
        assert!(self.done.iter().all(|times| *times <= 1), "done twice: {:?}", self.done);
        let lost = self.done.iter().filter(|times| **times == 0).count() as u64;
        assert_eq!(lost, self.left_out - self.words.done_behind);
    }
}

fn play(programs: usize, steps: &[Step]) -> Cpu {
    let mut cpu = Cpu::new(programs);
    for step in steps {
        cpu.take(*step);
    }
    cpu.finish();
    cpu
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// The kernel before 7.0: one program behind, and nothing but soft interrupts.
    #[test]
    fn interrupts(steps in steps(false)) {
        play(2, &steps).check();
    }

    /// The kernel from 7.0 on: tasks lose the CPU in the middle of a program, and get it again in any order.
    #[test]
    fn preemption(steps in steps(true)) {
        play(3, &steps).check();
    }
}

/// Without anything in between, the first program does it all and no word remains.
#[test]
fn one_after_the_other() {
    let cpu = play(3, &[Step::GoOn; 100]);
    assert!(cpu.done.len() > 10 && cpu.done.iter().all(|times| *times == 1));
    assert_eq!((cpu.left_out, cpu.words.done_behind), (0, 0));
    assert!(cpu.words.under_way.iter().all(|word| word.frame == 0));
}

/// The last program was left out and nobody asked for the word: the next run in that place is not taken for it.
#[test]
fn a_word_that_nobody_asked_for() {
    let mut words = Words::NONE;
    let run = |argument| Run { frame: 1, arguments: [argument, 0] };
    words.leave(run(1));
    assert!(!words.have(run(2)) && !words.take(run(2)));
    words.leave(run(2));
    assert!(!words.have(run(1)) && words.take(run(2)));
    // Where there is no room the earlier ones make it, one after the other.
    for frame in 1..=9 {
        words.leave(Run { frame, arguments: [0, 0] });
    }
    let remain: Vec<u64> = (1..=9).filter(|frame| words.have(Run { frame: *frame, arguments: [0, 0] })).collect();
    assert_eq!(remain, [6, 7, 8, 9]);
}
