//! Answers that repeat what the request said in secret.

use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::types::MessageData;

use crate::model::{Cause, FetchError};
use crate::source::aws::failure::said;
use crate::source::secrets::Secrets;

/// A page that anybody may see: its messages without secrets.
///
/// # Errors
/// [`FetchError::Malformed`] when a secret is in the data itself. `object` is what was asked.
pub(super) fn clean(
    mut page: GetMetricDataOutput,
    secrets: &Secrets,
    object: &str,
) -> Result<GetMetricDataOutput, FetchError> {
    let results = page.metric_data_results.iter_mut().flatten();
    for result in results {
        let texts = [result.id.as_deref(), result.label.as_deref()];
        if texts.into_iter().flatten().any(|text| secrets.are_in(text)) {
            return Err(FetchError::Malformed(Cause::new(format!(
                "{object}: the answer repeats the source's credentials"
            ))));
        }
        result.messages.iter_mut().flatten().for_each(|message| unsay(message, secrets));
    }
    page.messages.iter_mut().flatten().for_each(|message| unsay(message, secrets));
    Ok(page)
}

fn unsay(message: &mut MessageData, secrets: &Secrets) {
    for text in [&mut message.code, &mut message.value].into_iter().flatten() {
        *text = said(text, secrets);
    }
}
