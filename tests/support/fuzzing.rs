//! A plain harness for the fuzz targets: inputs mutated from a corpus, by a seed, for `FUZZ_SECONDS` (3) each.
//!
//! What fails is printed with its input in hex and the seed. `FUZZ_SEED` repeats a run, `FUZZ_INPUT` (hex) an input.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, panic, process, thread};

/// An execution that takes longer hangs.
const HANG: Duration = Duration::from_secs(60);
/// Longest input.
const MOST_BYTES: usize = 16 << 10;

/// Panics on threads that no target runs on, such as those of the server.
static ELSEWHERE: AtomicUsize = AtomicUsize::new(0);

/// The name of the threads on which targets run.
const THREAD: &str = "fuzzing";

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                ELSEWHERE.fetch_add(1, Ordering::SeqCst);
            }
            before(info);
        }));
    });
}

/// Runs a target on inputs made of `fuzz/corpus/<name>/`, of the files `seeds`, and of `words`.
pub(crate) fn fuzz(name: &'static str, target: fn(&[u8]), seeds: &[&str], words: &'static [&'static str]) {
    watch_panics();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(root.join("fuzz/corpus").join(name)).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.extend(seeds.iter().map(|seed| root.join(seed)));
    let mut corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    corpus.push(Vec::new());
    let run = move || {
        if let Ok(hex) = env::var("FUZZ_INPUT") {
            return target(&from_hex(&hex));
        }
        run(name, target, &corpus, words);
    };
    let thread = thread::Builder::new().name(THREAD.to_owned()).stack_size(8 << 20).spawn(run).unwrap();
    if let Err(failure) = thread.join() {
        // Without another call of the hook.
        panic::resume_unwind(failure);
    }
}

fn run(name: &str, target: fn(&[u8]), corpus: &[Vec<u8>], words: &[&str]) {
    let number = |variable: &str| env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let length = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(3));
    let seed = number("FUZZ_SEED").unwrap_or(0x5eed);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let current: Arc<Mutex<(Instant, Vec<u8>)>> = Arc::new(Mutex::new((Instant::now(), Vec::new())));
    let watched = Arc::downgrade(&current);
    thread::spawn(move || {
        while let Some(current) = watched.upgrade() {
            {
                let (began, input) = &*current.lock().unwrap_or_else(PoisonError::into_inner);
                if began.elapsed() > HANG {
                    eprintln!("an execution hangs; FUZZ_SEED={seed} FUZZ_INPUT={}", hex(input));
                    process::abort();
                }
            }
            drop(current);
            thread::sleep(Duration::from_secs(1));
        }
    });
    // A crash of the C library leaves no other trace of its input.
    let trace = env::temp_dir().join(format!("fuzz-{name}-{}", process::id()));
    let keeps_trace = name == "frames";
    let elsewhere = ELSEWHERE.load(Ordering::SeqCst);
    let (began, mut executions, mut slowest) = (Instant::now(), 0_u64, Duration::ZERO);
    while began.elapsed() < length {
        let place = usize::try_from(executions).unwrap();
        // The corpus as it is comes first.
        let input = corpus.get(place).cloned().unwrap_or_else(|| mutate(&mut random, corpus, words));
        let started = Instant::now();
        *current.lock().unwrap() = (started, input.clone());
        if keeps_trace {
            fs::write(&trace, hex(&input)).unwrap();
        }
        let good = panic::catch_unwind(|| target(&input)).is_ok();
        if !good || ELSEWHERE.load(Ordering::SeqCst) > elsewhere {
            panic!("after {executions} executions; FUZZ_SEED={seed} FUZZ_INPUT={}", hex(&input));
        }
        slowest = slowest.max(started.elapsed());
        executions += 1;
    }
    let _ = fs::remove_file(trace);
    println!("{name}: {executions} executions in {:.1?}, the slowest {slowest:.1?}, seed {seed}", began.elapsed());
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = random.pick(corpus).clone();
    if random.below(10) == 0 {
        bytes = (0..random.below(600)).map(|_| random.byte()).collect();
    }
    for _ in 0..=random.below(8) {
        let start = random.below(bytes.len() + 1);
        let end = (start + random.below(40)).min(bytes.len());
        match random.below(8) {
            0 if start < end => bytes[start] ^= 1 << random.below(8),
            1 if start < end => bytes[start] = random.byte(),
            2 => drop(bytes.drain(start..end)),
            // A piece once more, or many times.
            3 => {
                let piece = bytes[start..end].repeat([1, 1, 1, 100][random.below(4)]);
                drop(bytes.splice(start..start, piece));
            }
            4 if !words.is_empty() => drop(bytes.splice(start..end, random.pick(words).bytes())),
            5 if !words.is_empty() => drop(bytes.splice(start..start, random.pick(words).bytes())),
            6 => {
                let other = random.pick(corpus);
                let from = random.below(other.len() + 1);
                let to = (from + random.below(400)).min(other.len());
                drop(bytes.splice(start..end, other[from..to].iter().copied()));
            }
            _ => {
                let few: Vec<u8> = (0..random.below(9)).map(|_| random.byte()).collect();
                drop(bytes.splice(start..start, few));
            }
        }
    }
    bytes.truncate(MOST_BYTES);
    bytes
}

/// Marsaglia's xorshift: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[1]
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).expect("hexadecimal digits")).collect()
}
