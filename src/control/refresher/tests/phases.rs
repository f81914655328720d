use super::sharing::{Sky, of, sky};
use super::*;

const REFRESH: Duration = Duration::from_secs(15);

/// Reads a query at these moments, in milliseconds from now; gives the ages in milliseconds of what
/// was read, over the second half.
async fn read_at(sky: &Sky, cell: &Arc<QueryCell>, moments: &[u64]) -> Vec<u64> {
    let start = sky.clock.tick();
    let mut ages = Vec::new();
    for (i, moment) in moments.iter().enumerate() {
        sleep(start.after(Duration::from_millis(*moment)).since(sky.clock.tick())).await;
        sky.read(cell);
        if i > moments.len() / 2 {
            let state = cell.state();
            let sample = state.last_sample().expect("it was read long ago");
            let age = sky.clock.tick().since(sample.observed);
            ages.push(u64::try_from(age.as_millis()).unwrap());
        }
    }
    ages.sort_unstable();
    ages
}

fn beat(period: u64, phase: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |k| phase + k * period)
}

fn median(ages: &[u64]) -> u64 {
    ages[ages.len() / 2]
}

fn mean(ages: &[u64]) -> u64 {
    ages.iter().sum::<u64>() / ages.len() as u64
}

/// Runs readers for a while: their ages, and the calls beyond one for each interval.
async fn run(takes_ms: u64, moments: &[u64]) -> (Vec<u64>, i64) {
    let sky = sky(|_| {});
    sky.cloud.takes.lock().unwrap().insert("eu".into(), Duration::from_millis(takes_ms));
    let cell = of("eu/0/m", REFRESH);
    let ages = read_at(&sky, &cell, moments).await;
    let intervals = i64::try_from(moments.last().unwrap() / 15_000).unwrap();
    (ages, i64::try_from(sky.calls().len()).unwrap() - intervals)
}

#[tokio::test(start_paused = true)]
async fn a_beat_that_drifts_reads_what_is_about_a_second_old() {
    for takes_ms in [20, 100, 800] {
        let moments: Vec<u64> = beat(15_020, 0, 480).collect();
        let (ages, more) = run(takes_ms, &moments).await;
        assert!(median(&ages) <= 2000 + takes_ms, "{takes_ms}: {}", median(&ages));
        assert!((-2..=4).contains(&more), "{takes_ms}: {more} more calls");
    }
}

#[tokio::test(start_paused = true)]
async fn two_beats_share_the_better_phase() {
    for apart in [1000, 4000, 7500, 11_000] {
        let mut moments: Vec<u64> = beat(15_000, 0, 240).chain(beat(15_000, apart, 240)).collect();
        moments.sort_unstable();
        let (ages, more) = run(100, &moments).await;
        // Fresh for the one, and as old for the other as the shorter way between them is.
        let way = apart.min(15_000 - apart);
        assert!(mean(&ages) <= way / 2 + 1600, "{apart}: {}", mean(&ages));
        assert!((-2..=4).contains(&more), "{apart}: {more} more calls");
    }
}

#[tokio::test(start_paused = true)]
async fn irregular_readers_get_the_plain_interval() {
    // Steps without any beat, from a multiplicative generator.
    let mut seed = 1_u64;
    let mut moments = vec![0];
    for _ in 0..2000 {
        seed = seed * 48_271 % 2_147_483_647;
        moments.push(moments.last().unwrap() + seed % 7000);
    }
    let (ages, more) = run(100, &moments).await;
    assert!((6000..9000).contains(&mean(&ages)), "{}", mean(&ages));
    assert!(more.abs() <= 16, "{more} more calls in two hours");
}

#[tokio::test(start_paused = true)]
async fn what_is_only_claimed_or_on_a_grid_keeps_its_starts() {
    let sky = sky(|_| {});
    let cell = of("eu/0/m", REFRESH);
    let round = sky.clock.tick();
    cell.claim(crate::model::Claim { round, hpas: 1 });
    sky.refresher.want(&cell);
    sleep(Duration::from_mins(2)).await;
    let ticks: Vec<Tick> = sky.calls().iter().map(|call| call.tick).collect();
    assert!(ticks[1..].windows(2).all(|pair| pair[1].since(pair[0]) == REFRESH), "{ticks:?}");
}
