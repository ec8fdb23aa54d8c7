/* Constants of the tanh approximation of GELU; ref/glu.c states the formula. */
#ifndef INGLE_KERNELS_REF_GLU_H
#define INGLE_KERNELS_REF_GLU_H

#define INGLE_GELU_A 1.5957691216057308f
#define INGLE_GELU_B 0.07135481627260025f

#endif
