# SPDX-License-Identifier: Apache-2.0
"""Settings for the command line."""

StringInfo = provider(doc = "A setting's value.", fields = ["value"])

def _string_setting_impl(ctx):
    return StringInfo(value = ctx.build_setting_value)

string_setting = rule(
    implementation = _string_setting_impl,
    build_setting = config.string(flag = True),
)
